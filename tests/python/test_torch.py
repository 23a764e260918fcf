"""PyTorch tensors in eager mode: values, gradients, strides, threads."""

from __future__ import annotations

import math

import pytest
import torch
import vicinal
from calls import attend
from dense import Problem, attention, random_problem
from torch.testing import assert_close
from vicinal import _ext

PROBLEM = Problem((5, 6), (3, 3), (1, 2), (1, 1), (False, True), batch=2, heads=2, heads_kv=1, dim=4, dim_v=3)


@pytest.mark.parametrize("seed", range(60))
def test_random_problems_agree_with_dense_attention(seed: int) -> None:
    problem = random_problem(seed)
    inputs = problem.tensors(seed, requires_grad=True)
    present = [x for x in inputs if x is not None]
    results = attend(problem, inputs)
    expected = attention(problem, *inputs)
    weights = [torch.randn_like(x) for x in expected]
    for result, reference in zip(results, expected, strict=True):
        assert_close(result, reference, rtol=0, atol=1e-10)
    gradients = torch.autograd.grad(results, present, weights)
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, present, weights), strict=True):
        assert_close(gradient, reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(100, 106))
def test_narrow_dtypes(dtype: torch.dtype, seed: int) -> None:
    problem = random_problem(seed)
    inputs = problem.tensors(seed, dtype, requires_grad=True)
    present = [x for x in inputs if x is not None]
    output, logsumexp = attend(problem, inputs)
    assert output.dtype == dtype
    assert logsumexp.dtype == torch.float32
    wide = [x if x is None else x.detach().double().requires_grad_() for x in inputs]
    expected, expected_logsumexp = attention(problem, *wide)
    tolerance = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]
    assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)
    assert_close(logsumexp.double(), expected_logsumexp, rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-3)
    gradients = torch.autograd.grad(output, present, torch.ones_like(output))
    reference = torch.autograd.grad(expected, [x for x in wide if x is not None], torch.ones_like(expected))
    for gradient, wide_gradient in zip(gradients, reference, strict=True):
        assert gradient.dtype == dtype
        assert (gradient - wide_gradient).norm() <= 4 * tolerance * (wide_gradient.norm() + 1)


def test_gradcheck_with_logsumexp_and_additional_tokens() -> None:
    problem = Problem((3, 4), (2, 3), (1, 2), (1, 1), (False, True), 1, 2, 1, 3, 2, additional_tokens=2)
    assert torch.autograd.gradcheck(lambda *x: attend(problem, x), problem.tensors(requires_grad=True))


def test_gradient_of_logsumexp_alone() -> None:
    inputs = PROBLEM.tensors(requires_grad=True)
    (gradient,) = torch.autograd.grad(attend(PROBLEM, inputs)[1].sum(), inputs[0])
    (expected,) = torch.autograd.grad(attention(PROBLEM, *inputs)[1].sum(), inputs[0])
    assert_close(gradient, expected)


def test_gradient_of_one_input() -> None:
    for i in range(3):
        inputs = PROBLEM.tensors()
        inputs[i].requires_grad_()
        (gradient,) = torch.autograd.grad(attend(PROBLEM, inputs)[0].sum(), inputs[i])
        (expected,) = torch.autograd.grad(attention(PROBLEM, *inputs)[0].sum(), inputs[i])
        assert_close(gradient, expected)


def test_parameters_and_no_grad() -> None:
    query, key, value, _, _ = PROBLEM.tensors()
    parameter = torch.nn.Parameter(query)
    assert vicinal.na2d(parameter, key, value, 3).requires_grad
    with torch.no_grad():
        assert not vicinal.na2d(parameter, key, value, 3).requires_grad
    with torch.inference_mode():
        assert vicinal.na2d(parameter, key, value, 3).is_inference()
    assert not vicinal.na2d(query, key, value, 3).requires_grad


def test_packed_transposed_and_expanded_tensors_are_read_in_place() -> None:
    batch, x, y, heads, dim = 2, 5, 6, 2, 4
    packed = torch.randn(batch, x, y, 3, heads, dim, dtype=torch.float64, requires_grad=True)
    heads_first = torch.randn(batch, heads, x, y, dim, dtype=torch.float64, requires_grad=True)
    row = torch.randn(batch, 1, 1, heads, dim, dtype=torch.float64, requires_grad=True)
    leaves = packed, heads_first, row
    query = packed[:, :, :, 1]
    key = heads_first.permute(0, 2, 3, 1, 4)
    value = row.expand(-1, x, y, -1, -1)
    assert not any(t.is_contiguous() for t in (query, key, value))

    def gradients(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(vicinal.na2d(*tensors, 3).square().sum(), leaves)

    copies = [t.contiguous() for t in (query, key, value)]
    assert_close(vicinal.na2d(query, key, value, 3), vicinal.na2d(*copies, 3), rtol=0, atol=0)
    assert_close(gradients(query, key, value), gradients(*copies))


def test_misaligned_tensors() -> None:
    def shifted(x: torch.Tensor, elements: int) -> torch.Tensor:
        """The same values in memory that begins so many elements behind an aligned address."""
        memory = x.new_empty(x.numel() + 16)
        elements += -memory.data_ptr() // memory.element_size() % 16
        return memory[elements : elements + x.numel()].view_as(x).copy_(x)

    aligned = [shifted(x, 0) for x in torch.randn(4, 1, 6, 7, 2, 8)]
    *inputs, grad_output = aligned
    leaves = [x.clone().requires_grad_() for x in inputs]
    expected = vicinal.na2d(*leaves, 3)
    expected_gradients = torch.autograd.grad(expected, leaves, grad_output)
    refused = vicinal.Tiling(query_tile=2)  # by the reference, with the problem that was to be planned
    for number, elements, alignment in [(0, 2, 8), (1, 1, 4), (2, 5, 4), (3, 2, 8)]:
        *inputs, grad_output = (shifted(x, elements if i == number else 0) for i, x in enumerate(aligned))
        for x in inputs:
            x.requires_grad_()
        output = vicinal.na2d(*inputs, 3)
        assert_close(output, expected)
        assert_close(torch.autograd.grad(output, inputs, grad_output), expected_gradients)

        for_forward = rf"the forward pass of .* --alignment {alignment}\b"
        with pytest.raises(NotImplementedError, match=for_forward if number < 3 else r"--dtype fp32\n"):
            vicinal.na2d(*inputs, 3, backend="reference", tiling=refused)
        output = vicinal.na2d(*inputs, 3, backend="reference", backward_tiling=refused)
        with pytest.raises(NotImplementedError, match=rf"the backward pass of .* --alignment {alignment}\b"):
            output.backward(grad_output)


def test_gradient_with_a_zero_stride() -> None:
    inputs = PROBLEM.tensors(requires_grad=True)
    output, _ = attend(PROBLEM, inputs)
    assert_close(
        torch.autograd.grad(output.sum(), inputs[0], retain_graph=True),
        torch.autograd.grad(output, inputs[0], torch.ones_like(output)),
    )


def test_lazily_negated_tensors() -> None:
    tokens = torch.randn(1, 9, 1, 1, dtype=torch.complex64)
    negated = tokens.conj().imag
    assert negated.is_neg()
    expected = vicinal.na1d(*[-tokens.imag.contiguous()] * 3, 3)
    assert_close(vicinal.na1d(negated, negated, negated, 3), expected)


@pytest.mark.parametrize("additional", [False, True])
def test_empty_batch_has_gradients(additional: bool) -> None:
    problem = Problem((5,), (3,), (1,), (1,), (False,), batch=0, additional_tokens=2 if additional else 0)
    inputs = problem.tensors(requires_grad=True)
    output, logsumexp = attend(problem, inputs)
    assert output.shape == (0, 5, 1, 8)
    assert logsumexp.shape == (0, 5, 1)
    (output.sum() + logsumexp.sum()).backward()
    assert all(x.grad.shape == x.shape for x in inputs if x is not None)


def test_checkpoint_and_saved_tensor_hooks() -> None:
    inputs = PROBLEM.tensors(requires_grad=True)[:3]
    expected = torch.autograd.grad(vicinal.na2d(*inputs, 3).sum(), inputs)
    again = torch.utils.checkpoint.checkpoint(lambda *x: vicinal.na2d(*x, 3), *inputs, use_reentrant=False)
    assert_close(torch.autograd.grad(again.sum(), inputs), expected)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    with torch.autograd.graph.save_on_cpu():  # unpacks with other strides than it packed
        output = vicinal.na2d(*strided, 3)
    assert_close(torch.autograd.grad(output.sum(), inputs), expected)


def test_saved_tensors_are_guarded_against_changes() -> None:
    query, key, value, _, _ = PROBLEM.tensors(requires_grad=True)
    changed = key * 1
    output = vicinal.na2d(query, changed, value, 3)
    changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_scale_counts_tokens() -> None:
    ones = torch.ones(1, 7, 8, 1, 2, dtype=torch.float64)
    output, logsumexp = vicinal.na2d(ones, ones, ones, (3, 4), scale=0, return_lse=True)
    assert_close(output, ones)
    assert_close(logsumexp, torch.full_like(logsumexp, math.log(12)))


def test_threads_follow_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    from vicinal import _torch

    asked = []

    class Recorder:
        @staticmethod
        def forward(*arguments: object) -> None:
            asked.append(arguments[-1])

        @staticmethod
        def backward(*arguments: object) -> None:
            asked.append(arguments[-1])

    monkeypatch.setattr(_torch, "_ext", Recorder)
    inputs = PROBLEM.tensors(requires_grad=True)[:3]
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            vicinal.na2d(*inputs, 3).sum().backward()
    finally:
        torch.set_num_threads(threads)
    assert asked == [1, 1, 3, 3]


def test_same_bits_for_any_number_of_threads() -> None:
    problem = Problem((20, 20), (7, 7), (1, 1), (1, 1), (False, False), heads=2, heads_kv=2, dim=16, dim_v=16)
    inputs = problem.tensors(dtype=torch.float32, requires_grad=True)[:3]
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            output = vicinal.na2d(*inputs, 7)
            results.append((output, *torch.autograd.grad(output.square().sum(), inputs)))
    finally:
        torch.set_num_threads(threads)
    assert_close(results[1], results[0], rtol=0, atol=0)
    assert_close(results[2], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("warn_only", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_deterministic_mode_reaches_the_plan(compiled: bool, warn_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def backward(*arguments, run=_ext.backward):
        asked.append(arguments[-2])
        run(*arguments)

    def step(*inputs):
        return vicinal.na2d(*inputs, 3).sum()

    monkeypatch.setattr(_ext, "backward", backward)
    inputs = PROBLEM.tensors(dtype=torch.float32, requires_grad=True)[:3]
    run = torch.compile(step, fullgraph=True, backend="aot_eager") if compiled else step
    gradients = []
    try:
        for mode in (False, True, False):
            torch.use_deterministic_algorithms(mode, warn_only=warn_only)
            gradients.append(torch.autograd.grad(run(*inputs), inputs))
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [False, True, False]
    for other in gradients[1:]:
        assert_close(other, gradients[0], rtol=0, atol=0)
