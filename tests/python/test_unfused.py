"""The qk and av functions against the same by indexing in PyTorch; their derivatives; what PyTorch does with them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
import vicinal
from dense import Problem, axis_neighbors, random_problem
from test_numpy import ForeignArray
from test_torch_transforms import Recorder
from torch._subclasses import FakeTensorMode
from torch.testing import assert_close

QK = {1: vicinal.na1d_qk, 2: vicinal.na2d_qk, 3: vicinal.na3d_qk}
AV = {1: vicinal.na1d_av, 2: vicinal.na2d_av, 3: vicinal.na3d_av}

PROBLEM = Problem(
    (5, 6), (3, 2), (1, 2), (1, 2), (True, False), batch=2, heads=4, heads_kv=2, dim=3, additional_tokens=2
)
OPERATOR_PARAMETERS = ([3, 2], [1, 2], [1, 2], [True, False], 1.0, None, [])


def neighborhood(problem: Problem) -> dict:
    return {name: value for name, value in problem.parameters.items() if name != "scale"}


def qk(problem: Problem, query, key, rpb=None, additional_keys=None):
    function = QK[len(problem.layout)]
    return function(query, key, **neighborhood(problem), rpb=rpb, additional_keys=additional_keys)


def av(problem: Problem, attn, value, additional_values=None):
    return AV[len(problem.layout)](attn, value, **neighborhood(problem), additional_values=additional_values)


def slots(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """[tokens, prod(kernel_size)]: the flat index of the key of each slot, -1 where there is none; and of its bias."""
    per_axis = zip(
        problem.layout, problem.kernel_size, problem.dilation, problem.stride, problem.is_causal, strict=True
    )
    keys = torch.zeros(1, 1, dtype=torch.long)
    biases = torch.zeros(1, 1, dtype=torch.long)
    for extent, k, dilation, stride, causal in per_axis:
        key = torch.full((extent, k), -1)
        bias = torch.zeros(extent, k, dtype=torch.long)
        for i in range(extent):
            for slot, j in enumerate(axis_neighbors(i, extent, k, dilation, stride, causal)):
                key[i, slot] = j
                bias[i, slot] = k - 1 + (j - i) // dilation
        outer = keys[:, None, :, None], key[None, :, None, :]
        together = torch.where((outer[0] < 0) | (outer[1] < 0), -1, outer[0] * extent + outer[1])
        biases = (biases[:, None, :, None] * (2 * k - 1) + bias[None, :, None, :]).flatten(2).flatten(0, 1)
        keys = together.flatten(2).flatten(0, 1)
    return keys, biases


def dense_qk(problem: Problem, query, key, rpb=None, additional_keys=None):
    keys, biases = slots(problem)
    share = problem.heads // problem.heads_kv
    key = key.flatten(1, -3).repeat_interleave(share, -2)[:, keys.clamp(min=0)]  # [batch, tokens, slots, heads, dim]
    query = query.flatten(1, -3)
    attn = torch.einsum("bthd,btshd->bths", query, key)
    if rpb is not None:
        attn = attn + rpb.flatten(1)[:, biases].transpose(0, 1)
    attn = attn.masked_fill((keys < 0)[:, None], -torch.inf)
    if additional_keys is not None:
        additional = torch.einsum("bthd,bnhd->bthn", query, additional_keys.repeat_interleave(share, -2))
        attn = torch.cat([attn, additional], -1)
    return attn.reshape(problem.batch, *problem.layout, problem.heads, -1)


def dense_av(problem: Problem, attn, value, additional_values=None):
    keys, _ = slots(problem)
    share = problem.heads // problem.heads_kv
    attn = attn.flatten(1, -3)
    value = value.flatten(1, -3).repeat_interleave(share, -2)[:, keys.clamp(min=0)]
    near = attn[..., : keys.shape[1]].masked_fill((keys < 0)[:, None], 0)
    output = torch.einsum("bths,btshd->bthd", near, value)
    if additional_values is not None:
        far = attn[..., keys.shape[1] :]
        output = output + torch.einsum("bthn,bnhd->bthd", far, additional_values.repeat_interleave(share, -2))
    return output.reshape(problem.batch, *problem.layout, problem.heads, -1)


def one_head_dim(seed: int) -> Problem:
    problem = random_problem(seed)
    problem.dim_v = problem.dim
    return problem


def bias_of(problem: Problem, dtype: torch.dtype = torch.float64, requires_grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(17)
    shape = (problem.heads, *(2 * k - 1 for k in problem.kernel_size))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(requires_grad)


def weights_of(problem: Problem, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Weights with NaN where there is no key."""
    keys, _ = slots(problem)
    shape = (problem.batch, len(keys), problem.heads, keys.shape[1] + problem.additional_tokens)
    attn = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)
    attn[..., : keys.shape[1]].masked_fill_((keys < 0)[:, None], torch.nan)
    return attn.reshape(problem.batch, *problem.layout, problem.heads, -1)


def with_gradients(result, inputs, grad_output):
    present = [x for x in inputs if x is not None]
    return result, torch.autograd.grad(result, present, grad_output)


@pytest.mark.parametrize("seed", range(60))
def test_qk_and_its_gradients(seed: int) -> None:
    problem = one_head_dim(seed)
    query, key, _, additional_keys, _ = problem.tensors(seed, requires_grad=True)
    rpb = bias_of(problem, requires_grad=True) if seed % 3 else None
    inputs = (query, key, rpb, additional_keys)
    grad_attn = weights_of(problem)  # NaN in slots without a key: their gradient is not read
    attn, gradients = with_gradients(qk(problem, *inputs), inputs, grad_attn)
    expected, expected_gradients = with_gradients(dense_qk(problem, *inputs), inputs, grad_attn.nan_to_num(0))
    assert attn.is_contiguous()
    assert_close(attn, expected, rtol=0, atol=1e-11)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_av_and_its_gradients(seed: int) -> None:
    problem = one_head_dim(seed)
    _, _, value, _, additional_values = problem.tensors(seed, requires_grad=True)
    attn = weights_of(problem).requires_grad_()
    zeros = attn.detach().nan_to_num(0).requires_grad_()
    grad_output = torch.randn(problem.batch, *problem.layout, problem.heads, problem.dim, dtype=torch.float64)
    output, gradients = with_gradients(
        av(problem, attn, value, additional_values), (attn, value, additional_values), grad_output
    )
    expected, expected_gradients = with_gradients(
        dense_av(problem, zeros, value, additional_values), (zeros, value, additional_values), grad_output
    )
    assert_close(output, expected, rtol=0, atol=1e-11)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(200, 220))
def test_the_two_halves_make_the_whole(seed: int) -> None:
    problem = one_head_dim(seed)
    query, key, value, additional_keys, additional_values = inputs = problem.tensors(seed, requires_grad=True)
    present = [x for x in inputs if x is not None]
    scale = problem.dim**-0.5 if problem.scale is None else problem.scale
    attn = qk(problem, query * scale, key, None, additional_keys).softmax(-1)
    output = av(problem, attn, value, additional_values)
    whole = vicinal.neighborhood_attention_generic(
        query, key, value, **problem.parameters, additional_keys=additional_keys, additional_values=additional_values
    )
    assert_close(output, whole, rtol=0, atol=1e-11)
    grad_output = torch.randn_like(output)
    halves = torch.autograd.grad(output, present, grad_output)
    for gradient, reference in zip(halves, torch.autograd.grad(whole, present, grad_output), strict=True):
        assert_close(gradient, reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(300, 306))
def test_narrow_dtypes(dtype: torch.dtype, seed: int) -> None:
    problem = one_head_dim(seed)
    query, key, value, additional_keys, additional_values = problem.tensors(seed, dtype)
    rpb = bias_of(problem, dtype)
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    attn = qk(problem, query, key, rpb, additional_keys)
    assert attn.dtype == dtype
    wide = [x if x is None else x.double() for x in (query, key, rpb, additional_keys)]
    assert_close(attn.double(), dense_qk(problem, *wide), rtol=tolerance, atol=4 * tolerance)
    attn = weights_of(problem, dtype)
    output = av(problem, attn, value, additional_values)
    assert output.dtype == dtype
    wide = [x if x is None else x.double() for x in (attn.nan_to_num(0), value, additional_values)]
    assert_close(output.double(), dense_av(problem, *wide), rtol=tolerance, atol=10 * tolerance)


def test_the_bias_by_hand() -> None:
    rpb = torch.tensor([[10.0, 20.0, 30.0, 40.0, 50.0]])
    zeros = torch.zeros(1, 6, 1, 1)
    attn = vicinal.na1d_qk(zeros, zeros, 3, rpb=rpb)[0, :, 0]
    assert attn[0].tolist() == [30, 40, 50]  # the query itself and the two after it
    assert attn[2].tolist() == [20, 30, 40]
    assert attn[5].tolist() == [10, 20, 30]


def test_slots_by_hand() -> None:
    positions = torch.arange(8.0).reshape(1, 8, 1, 1)
    ones = torch.ones_like(positions)
    assert vicinal.na1d_qk(ones, positions, 3, dilation=2)[0, 3, 0].tolist() == [1, 3, 5]
    assert vicinal.na1d_qk(ones, positions, 4)[0, 3, 0].tolist() == [1, 2, 3, 4]  # an even window leans left
    assert vicinal.na1d_qk(ones, positions, 3, is_causal=True)[0, 1, 0].tolist() == [0, 1, -torch.inf]
    extra = torch.full((1, 2, 1, 1), 9.0)
    assert vicinal.na1d_qk(ones, positions, 2, additional_keys=extra)[0, 4, 0].tolist() == [3, 4, 9, 9]


# Without causal axes, since differences of infinities are no numbers; tests above compare with causal ones.
OPEN = Problem((4, 5), (3, 2), (2, 1), (1, 2), (False, False), heads=2, heads_kv=1, dim=2, additional_tokens=1)


def test_gradcheck_to_the_second_order() -> None:
    query, key, value, additional_keys, additional_values = OPEN.tensors(requires_grad=True)
    rpb = bias_of(OPEN, requires_grad=True)
    attn = weights_of(OPEN).requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda *x: qk(OPEN, *x), (query, key, rpb, additional_keys))
        assert check(lambda *x: av(OPEN, *x), (attn, value, additional_values))
    assert torch.autograd.gradgradcheck(
        lambda q, k, b, v: av(OPEN, qk(OPEN, q, k, b, additional_keys).softmax(-1), v, additional_values),
        (query, key, rpb, value),
    )


def test_gradcheck_through_a_causal_softmax() -> None:
    query, key, value, additional_keys, additional_values = PROBLEM.tensors(requires_grad=True)
    rpb = bias_of(PROBLEM, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, k, b, v: av(PROBLEM, qk(PROBLEM, q, k, b, additional_keys).softmax(-1), v, additional_values),
        (query, key, rpb, value),
    )


def test_gradients_that_nobody_needs_are_not_computed() -> None:
    query, key, value, additional_keys, additional_values = PROBLEM.tensors()
    rpb = bias_of(PROBLEM, requires_grad=True)
    with Recorder() as recorder:
        output = av(PROBLEM, qk(PROBLEM, query, key, rpb, additional_keys).softmax(-1), value, additional_values)
        output.sum().backward()
    assert [name for name in recorder.names if name.startswith("vicinal.")] == [
        "vicinal.pointwise_neighborhood.default",
        "vicinal.neighborhood_neighborhood.default",
        "vicinal.pointwise_neighborhood.default",
        "vicinal.bias_gradient.default",
    ]


@pytest.mark.parametrize("additional", [False, True])
def test_opcheck(additional: bool) -> None:
    for requires_grad in (False, True):
        query, key, value, additional_keys, additional_values = PROBLEM.tensors(requires_grad=requires_grad)
        if not additional:
            additional_keys = additional_values = None
        rpb = bias_of(PROBLEM, requires_grad=requires_grad)
        attn = qk(PROBLEM, query, key, rpb, additional_keys).softmax(-1).detach().requires_grad_(requires_grad)
        operators = torch.ops.vicinal
        for operator, arguments in (
            (operators.pointwise_neighborhood, (query, key, rpb, additional_keys, True)),
            (operators.pointwise_neighborhood, (query, key, None, additional_keys, True)),
            (operators.neighborhood_neighborhood, (attn, value, additional_values)),
            (operators.inverse_neighborhood, (attn, query, PROBLEM.heads_kv)),
            (operators.bias_gradient, (attn,)),
        ):
            torch.library.opcheck(operator.default, (*arguments, *OPERATOR_PARAMETERS))


def attend(query, key, value, rpb, additional_keys, additional_values):
    attn = qk(PROBLEM, query * PROBLEM.dim**-0.5, key, rpb, additional_keys).softmax(-1)
    return av(PROBLEM, attn, value, additional_values)


@pytest.mark.parametrize(("backend", "dynamic"), [("inductor", False), ("aot_eager", True)])
def test_compile_in_one_graph(backend: str, dynamic: bool) -> None:
    compiled = torch.compile(attend, fullgraph=True, dynamic=dynamic, backend=backend)
    for batch in (2, 3):
        problem = Problem(**(vars(PROBLEM) | {"batch": batch}))
        query, key, value, *additional = problem.tensors(requires_grad=True)
        inputs = (query, key, value, bias_of(problem, requires_grad=True), *additional)
        expected, result = attend(*inputs), compiled(*inputs)
        assert_close(result, expected)
        grad_output = torch.randn_like(expected)
        assert_close(
            torch.autograd.grad(result, inputs, grad_output), torch.autograd.grad(expected, inputs, grad_output)
        )


class Attention(torch.nn.Module):
    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return attend(*inputs)


def test_export() -> None:
    query, key, value, *additional = PROBLEM.tensors()
    inputs = (query, key, value, bias_of(PROBLEM), *additional)
    exported = torch.export.export(Attention(), inputs)
    assert any(node.target == torch.ops.vicinal.pointwise_neighborhood.default for node in exported.graph.nodes)
    assert_close(exported.module()(*inputs), attend(*inputs))


def test_fake_and_meta_tensors() -> None:
    query, key, value, *additional = PROBLEM.tensors(dtype=torch.float16)
    inputs = (query, key, value, bias_of(PROBLEM, torch.float16), *additional)
    real = attend(*inputs)
    with FakeTensorMode() as mode:
        fake = attend(*(mode.from_tensor(x) for x in inputs))
    meta = attend(*(x.to("meta") for x in inputs))
    for result in (fake, meta):
        assert (result.shape, result.dtype, result.stride()) == (real.shape, real.dtype, real.stride())


def test_autocast() -> None:
    query, key, value, *additional = PROBLEM.tensors(dtype=torch.float32, requires_grad=True)
    inputs = (query, key, value, bias_of(PROBLEM, torch.float32, requires_grad=True), *additional)
    with torch.autocast("cpu", torch.bfloat16):
        output = attend(*inputs)
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), attend(*inputs), rtol=3e-2, atol=3e-2)
    output.float().sum().backward()
    assert all(x.grad.dtype == torch.float32 for x in inputs)


def test_any_strides() -> None:
    query, key, value, additional_keys, additional_values = PROBLEM.tensors()
    rpb = bias_of(PROBLEM)
    attn = qk(PROBLEM, query, key, rpb, additional_keys).softmax(-1)
    heads_first = query.transpose(1, 3).contiguous().transpose(1, 3)
    transposed = rpb.transpose(1, 2).contiguous().transpose(1, 2)
    assert_close(qk(PROBLEM, heads_first, key, transposed, additional_keys).softmax(-1), attn, rtol=0, atol=0)
    output = av(PROBLEM, attn, value, additional_values)
    slots_first = attn.movedim(-1, 1).contiguous().movedim(1, -1)
    assert slots_first.stride(-1) != 1
    assert_close(av(PROBLEM, slots_first, value, additional_values), output, rtol=0, atol=0)


def test_an_empty_batch() -> None:
    query, key, value, additional_keys, additional_values = (x[:0] for x in PROBLEM.tensors())
    rpb = bias_of(PROBLEM, requires_grad=True)
    output = attend(query, key, value, rpb, additional_keys, additional_values)
    assert output.shape == (0, 5, 6, 4, 8)
    output.sum().backward()
    assert not rpb.grad.any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_numpy(dtype: type) -> None:
    query, key, value, *additional = PROBLEM.tensors()
    tensors = (query, key, value, bias_of(PROBLEM), *additional)
    arrays = [x.numpy().astype(dtype) for x in tensors]
    query, key, value, rpb, additional_keys, additional_values = arrays
    attn = qk(PROBLEM, query, key, rpb, additional_keys)
    assert attn.dtype == dtype
    assert attn.flags.c_contiguous
    wide = [torch.from_numpy(x.astype(np.float64)) for x in arrays]
    tolerance = {np.float64: 1e-12, np.float32: 1e-5, np.float16: 5e-3}.get(dtype, 4e-2)
    expected = dense_qk(PROBLEM, wide[0], wide[1], wide[3], wide[4])
    assert_close(torch.from_numpy(attn.astype(np.float64)), expected, rtol=tolerance, atol=tolerance)
    finite = np.where(np.isinf(attn.astype(np.float64)), 0, attn.astype(np.float64)).astype(dtype)
    output = av(PROBLEM, finite, value, additional_values)
    assert output.dtype == dtype
    expected = dense_av(PROBLEM, torch.from_numpy(finite.astype(np.float64)), wide[2], wide[5])
    assert_close(torch.from_numpy(output.astype(np.float64)), expected, rtol=tolerance, atol=10 * tolerance)


def test_arrays_of_another_library() -> None:
    query, key, value, additional_keys, additional_values = (x.numpy() for x in PROBLEM.tensors())
    rpb = bias_of(PROBLEM).numpy()
    foreign = [ForeignArray(x) for x in (query, key, rpb, additional_keys)]
    attn = qk(PROBLEM, *foreign)
    assert type(attn) is ForeignArray
    np.testing.assert_array_equal(attn.data, qk(PROBLEM, query, key, rpb, additional_keys))
    attn = np.exp(attn.data)
    output = av(PROBLEM, ForeignArray(attn), ForeignArray(value), ForeignArray(additional_values))
    np.testing.assert_array_equal(output.data, av(PROBLEM, attn, value, additional_values))


X = torch.randn(2, 5, 6, 4, 8)
N = X.numpy()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: vicinal.na2d_qk(X, X, 7), ValueError, r"kernel_size\[0\] = 7, but layout\[0\] = 5"),
        (lambda: vicinal.na2d_qk(N, N, 7), ValueError, r"kernel_size\[0\] = 7, but layout\[0\] = 5"),
        (lambda: vicinal.na2d_qk(N, N, -3), ValueError, r"kernel_size\[0\] = -3; allowed: at least 1"),
        (lambda: vicinal.na2d_qk(X, X, -3), ValueError, r"kernel_size\[0\] = -3; allowed: at least 1"),
        (
            lambda: vicinal.na2d_qk(X, X, 3, stride=4),
            ValueError,
            r"stride\[0\] = 4; allowed: 1 to kernel_size\[0\] = 3",
        ),
        (
            lambda: vicinal.na2d_qk(X, X[..., :4], 3),
            ValueError,
            r"key has shape \[2, 5, 6, 4, 4\]; allowed: \[2, 5, 6, 4",
        ),
        (
            lambda: vicinal.na2d_qk(X, X, 3, rpb=torch.zeros(4, 5, 4)),
            ValueError,
            r"rpb has shape \[4, 5, 4\]; allowed: \[4, 5, 5\], which is \[heads, 2 \* kernel_size - 1 per axis\]",
        ),
        (
            lambda: vicinal.na2d_qk(X, X, 3, rpb=torch.zeros(4, 5, 5).double()),
            ValueError,
            "rpb has dtype fp64; allowed: fp32 in this fp32 problem",
        ),
        (
            lambda: vicinal.na2d_av(X, X, 3),
            ValueError,
            r"attn has shape \[2, 5, 6, 4, 8\]; allowed: \[2, 5, 6, 4, 9\], which is \[batch, \*layout, heads, "
            r"prod\(kernel_size\) \+ additional_tokens\]",
        ),
        (
            lambda: vicinal.na1d_qk(X, X, 3),
            ValueError,
            r"query has 5 dimensions; allowed: 4, \[batch, 1 extents, heads",
        ),
        (lambda: vicinal.na2d_qk(X, N, 3), TypeError, "key is of type ndarray; allowed: torch.Tensor, as query is one"),
        (
            lambda: vicinal.na2d_av(X, N, 3),
            TypeError,
            "value is of type ndarray; allowed: torch.Tensor, as attn is one",
        ),
        (lambda: vicinal.na2d_qk(N, X, 3), TypeError, "key is of type Tensor; allowed: numpy.ndarray"),
        (
            lambda: vicinal.na2d_qk([1], X, 3),
            TypeError,
            "query is of type list; allowed: a torch.Tensor, a numpy.ndarray",
        ),
        (lambda: vicinal.na2d_qk(X, X, 3.0), TypeError, "kernel_size = 3.0; allowed: an integer or 2 integers"),
        (
            lambda: vicinal.na2d_qk(X, X, 3, backend="fused"),
            ValueError,
            'backend = "fused" names no kernel for pointwise',
        ),
    ],
)
def test_refusals(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_transforms_are_refused() -> None:
    several = X.expand(3, *X.shape)
    for transformed in (
        lambda: torch.vmap(lambda x: vicinal.na2d_qk(x, X, 3))(several),
        lambda: torch.func.grad(lambda x: vicinal.na2d_qk(x, X, 3).sum())(X),
    ):
        with pytest.raises(NotImplementedError, match=r"torch\.func transforms .* are not supported"):
            transformed()
    with pytest.raises(NotImplementedError, match=r"torch\.vmap of neighborhood attention is not supported"):
        torch.vmap(
            lambda x: torch.ops.vicinal.bias_gradient(x, [2, 2], [1, 1], [1, 1], [False, False], None, None, [])
        )(torch.randn(3, 2, 5, 6, 4, 4))


@pytest.mark.parametrize("seed", range(400, 410))
def test_the_naive_backend_is_a_whole_attention(seed: int) -> None:
    problem = random_problem(seed)
    query, key, value, additional_keys, additional_values = inputs = problem.tensors(seed, requires_grad=True)
    keywords = {"additional_keys": additional_keys, "additional_values": additional_values, "return_lse": True}
    naive, fused = (
        vicinal.neighborhood_attention_generic(query, key, value, **problem.parameters, **keywords, backend=backend)
        for backend in ("naive", "fused")
    )
    assert_close(naive, fused, rtol=0, atol=1e-10)
    present = [x for x in inputs if x is not None]
    weights = [torch.randn_like(x) for x in naive]
    gradients = (torch.autograd.grad(results, present, weights) for results in (naive, fused))
    for gradient, reference in zip(*gradients, strict=True):
        assert_close(gradient, reference, rtol=0, atol=1e-9)
