"""What PyTorch does with the operators: opcheck, compile, export, fake tensors, autocast; and what is refused."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
import vicinal
from dense import Problem
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from vicinal import _parameters

PROBLEM = Problem((5, 6), (3, 2), (1, 2), (1, 1), (False, True), batch=2, heads=2, heads_kv=1, dim=4, dim_v=3)
PROBLEM_WITH_ADDITIONAL = Problem(**(vars(PROBLEM) | {"additional_tokens": 2}))
OPERATOR_PARAMETERS = ([3, 2], [1, 2], [1, 1], [False, True], None, None, [])


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **keywords: object):
    return vicinal.na2d(query, key, value, **PROBLEM.parameters, **keywords)


@pytest.mark.parametrize("problem", [PROBLEM, PROBLEM_WITH_ADDITIONAL])
def test_opcheck_forward(problem: Problem) -> None:
    for requires_grad in (False, True):
        inputs = problem.tensors(requires_grad=requires_grad)
        torch.library.opcheck(torch.ops.vicinal.attention.default, (*inputs, *OPERATOR_PARAMETERS))


@pytest.mark.parametrize("problem", [PROBLEM, PROBLEM_WITH_ADDITIONAL])
def test_opcheck_backward(problem: Problem) -> None:
    inputs = problem.tensors()
    results = torch.ops.vicinal.attention(*inputs, *OPERATOR_PARAMETERS)
    gradients = [torch.randn_like(x) for x in results]
    for given in (gradients, [gradients[0], None], [None, gradients[1]]):
        arguments = (*inputs, *results, *given, *OPERATOR_PARAMETERS)
        torch.library.opcheck(torch.ops.vicinal.attention_backward.default, arguments)


class Recorder(TorchDispatchMode):
    """The names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_operators_and_the_short_way_agree() -> None:
    inputs = PROBLEM.tensors(requires_grad=True)[:3]
    direct = attend(*inputs, return_lse=True)
    weights = [torch.randn_like(x) for x in direct]
    with Recorder() as recorder:
        observed = attend(*inputs, return_lse=True)
        gradients = torch.autograd.grad(observed, inputs, weights)
    assert "vicinal.attention.default" in recorder.names
    assert "vicinal.attention_backward.default" in recorder.names
    assert_close(observed, direct, rtol=0, atol=0)
    assert_close(gradients, torch.autograd.grad(direct, inputs, weights), rtol=0, atol=0)


def test_profiler_sees_the_operators() -> None:
    inputs = PROBLEM.tensors(requires_grad=True)[:3]
    with torch.profiler.profile() as profile:
        attend(*inputs).sum().backward()
    names = {event.name for event in profile.events()}
    assert {"vicinal::attention", "vicinal::attention_backward"} <= names


@pytest.mark.parametrize(("backend", "dynamic"), [("inductor", False), ("aot_eager", True)])
def test_compile_in_one_graph(backend: str, dynamic: bool) -> None:
    def program(query, key, value):
        output, logsumexp = attend(query * 2, key, value, return_lse=True)
        return output.square().sum() + logsumexp.sum()

    compiled = torch.compile(program, fullgraph=True, dynamic=dynamic, backend=backend)
    for batch in (2, 3):
        problem = Problem(**(vars(PROBLEM) | {"batch": batch}))
        inputs = problem.tensors(requires_grad=True)[:3]
        expected = program(*inputs)
        result = compiled(*inputs)
        assert_close(result, expected)
        assert_close(torch.autograd.grad(result, inputs), torch.autograd.grad(expected, inputs))


def test_compiled_packed_projection_with_autocast() -> None:
    module = vicinal.NeighborhoodAttention2D(16, 2, 3)
    tokens = torch.randn(2, 5, 6, 16)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        result = compiled(tokens)
        expected = module(tokens)
    assert result.dtype == expected.dtype == torch.bfloat16
    assert_close(result, expected, rtol=2e-2, atol=2e-2)


def test_compile_warns_about_natten_keywords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parameters, "_warned", set())
    query, key, value, _, _ = PROBLEM.tensors()
    compiled = torch.compile(
        lambda *x: attend(*x, backend="cutlass-fna", q_tile_shape=(8, 8)), fullgraph=True, backend="aot_eager"
    )
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert_close(compiled(query, key, value), attend(query, key, value))
    ignored = [w for w in warned if "accepted for NATTEN's sake" in str(w.message)]
    assert len(ignored) == 2


def test_compiled_refusals_keep_their_words() -> None:
    compiled = torch.compile(lambda x: vicinal.na2d(x, x, x, 7), fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match=r"kernel_size\[0\] = 7, but layout\[0\] = 5"):
        compiled(PROBLEM.tensors()[0])


class Attention(torch.nn.Module):
    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return attend(query, key, value)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    inputs = PROBLEM.tensors()[:3]
    batch = torch.export.Dim("batch")
    exported = torch.export.export(Attention(), tuple(inputs), dynamic_shapes=({0: batch},) * 3, strict=strict)
    assert any(node.target == torch.ops.vicinal.attention.default for node in exported.graph.nodes)
    larger = Problem(**(vars(PROBLEM) | {"batch": 5})).tensors()[:3]
    assert_close(exported.module()(*larger), attend(*larger))


def test_fake_and_meta_tensors() -> None:
    inputs = PROBLEM.tensors(dtype=torch.float16)[:3]
    output, logsumexp = attend(*inputs, return_lse=True)
    with FakeTensorMode() as mode:
        fake = attend(*(mode.from_tensor(x) for x in inputs), return_lse=True)
    meta = attend(*(x.to("meta") for x in inputs), return_lse=True)
    for (fake_output, fake_logsumexp), device in ((fake, "cpu"), (meta, "meta")):
        assert fake_output.device.type == fake_logsumexp.device.type == device
        for result, real in ((fake_output, output), (fake_logsumexp, logsumexp)):
            assert (result.shape, result.dtype, result.stride()) == (real.shape, real.dtype, real.stride())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_as_sdpa_does(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype):
        for given in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            query, key, value = (x.to(given) for x in Problem((6,), (3,), (1,), (1,), (False,)).tensors()[:3])
            theirs = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
            assert vicinal.na1d(query, key, value, 3).dtype == theirs.dtype


def test_autocast_casts_every_input_and_its_gradient() -> None:
    inputs = PROBLEM_WITH_ADDITIONAL.tensors(dtype=torch.float32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = attend(*inputs[:3], additional_keys=inputs[3], additional_values=inputs[4])
    assert output.dtype == torch.bfloat16
    expected = attend(
        *(x.bfloat16() for x in inputs[:3]),
        additional_keys=inputs[3].bfloat16(),
        additional_values=inputs[4].bfloat16(),
    )
    assert_close(output, expected, rtol=0, atol=0)
    output.float().sum().backward()
    assert all(x.grad.dtype == torch.float32 for x in inputs)


def test_second_derivatives_are_refused() -> None:
    query, key, value = PROBLEM.tensors(requires_grad=True)[:3]
    (first,) = torch.autograd.grad(attend(query, key, value).sum(), query, create_graph=True)
    (expected,) = torch.autograd.grad(attend(query, key, value).sum(), query)
    assert_close(first, expected)  # the first one is there, whatever becomes of it
    with pytest.raises(NotImplementedError, match="second derivatives of neighborhood attention are not supported"):
        first.sum().backward()


def test_functional_transforms_are_refused() -> None:
    query, key, value = PROBLEM.tensors()[:3]
    several = query.expand(3, *query.shape)

    def attention_to(x: torch.Tensor) -> torch.Tensor:
        return attend(x, key, value)

    for transformed in (
        lambda: torch.vmap(attention_to)(several),
        lambda: torch.func.grad(lambda x: attention_to(x).sum())(query),
        lambda: torch.func.jvp(attention_to, (query,), (query,)),
        lambda: torch.func.jacrev(attention_to)(query),
    ):
        with pytest.raises(
            NotImplementedError, match=r"torch\.func transforms .* of neighborhood attention are not supp"
        ):
            transformed()
    with pytest.raises(NotImplementedError, match=r"torch\.vmap of neighborhood attention is not supported"):
        torch.vmap(lambda x: torch.ops.vicinal.attention(x, key, value, None, None, *OPERATOR_PARAMETERS))(several)
    # A transform around tensors that it does not touch is nobody's business.
    doubled = torch.vmap(lambda x: x * attend(query, key, value).sum())(torch.ones(2))
    assert doubled.shape == (2,)


def test_forward_mode_is_refused() -> None:
    query, key, value = PROBLEM.tensors()[:3]
    with forward_ad.dual_level():
        for position in range(3):
            inputs = [query, key, value]
            inputs[position] = forward_ad.make_dual(inputs[position], torch.ones_like(inputs[position]))
            with pytest.raises(NotImplementedError, match="forward-mode derivatives of neighborhood attention are not"):
                attend(*inputs)
        assert_close(attend(query, key, value), attend(query, key, value))


def test_compiled_programs_take_turns_with_eager_ones() -> None:
    """The cache of plans and the short way serve any mix of parameters."""
    query, key, value = PROBLEM.tensors(dtype=torch.float32)[:3]
    for kernel_size, scale in itertools.product((2, 3), (None, 1.0)):
        with Recorder():
            observed = vicinal.na2d(query, key, value, kernel_size, scale=scale)
        assert_close(vicinal.na2d(query, key, value, kernel_size, scale=scale), observed, rtol=0, atol=0)
