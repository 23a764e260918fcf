"""PyTorch tensors on a GPU: values and gradients, streams, graphs, compilation, autocast."""

from __future__ import annotations

import pytest
import torch
import vicinal
from calls import attend
from dense import Problem, attention, random_problem
from torch.testing import assert_close

if not torch.cuda.is_available():
    pytest.skip("this machine has no CUDA device", allow_module_level=True)

on_hopper = pytest.mark.skipif(
    torch.cuda.get_device_capability()[0] != 9, reason="the fused kernels on CUDA are for Hopper"
)
FUSED_ERROR = {torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of norms

PROBLEM = Problem((9, 10), (3, 5), (1, 2), (1, 2), (False, True), batch=2, heads=4, heads_kv=2, dim=16, dim_v=16)


def on(device: str, inputs):
    """Leaves on a device with the values of others."""
    return [x if x is None else x.detach().to(device).requires_grad_(x.requires_grad) for x in inputs]


def expect_dense_results(problem: Problem, inputs, results, tolerance: float) -> None:
    """Results and gradients on the GPU against dense attention in float64 on the CPU."""
    present = [x for x in inputs if x is not None]
    wide = [x if x is None else x.detach().cpu().double().requires_grad_() for x in inputs]
    expected = attention(problem, *wide)
    weights = [torch.randn_like(x) for x in expected]
    for result, reference in zip(results, expected, strict=True):
        assert_close(result.cpu().double(), reference, rtol=tolerance, atol=tolerance)
    gradients = torch.autograd.grad(results, present, [w.to(r) for w, r in zip(weights, results, strict=True)])
    reference = torch.autograd.grad(expected, [x for x in wide if x is not None], weights)
    for gradient, wide_gradient in zip(gradients, reference, strict=True):
        error = (gradient.cpu().double() - wide_gradient).norm()
        assert error <= 4 * tolerance * (wide_gradient.norm() + 1)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)],
)
@pytest.mark.parametrize("seed", range(10))
def test_random_problems_agree_with_dense_attention(seed: int, dtype: torch.dtype, tolerance: float) -> None:
    problem = random_problem(seed)
    inputs = on("cuda", problem.tensors(seed, dtype, requires_grad=True))
    results = attend(problem, inputs)
    assert results[0].device == inputs[0].device
    assert results[0].dtype == dtype
    expect_dense_results(problem, inputs, results, tolerance)


def test_packed_projection_is_read_in_place() -> None:
    packed = torch.randn(2, 9, 10, 3, 4, 16, device="cuda")
    query, key, value = packed.unbind(3)
    expected = vicinal.na2d(*(x.cpu().contiguous() for x in (query, key, value)), 3)
    assert_close(vicinal.na2d(query, key, value, 3).cpu(), expected)


LAYOUTS = [(200,), (20, 18), (9, 8, 10)]
FUNCTIONS = [vicinal.na1d, vicinal.na2d, vicinal.na3d]
MODULES = [vicinal.NeighborhoodAttention1D, vicinal.NeighborhoodAttention2D, vicinal.NeighborhoodAttention3D]


@on_hopper
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_functions_of_each_rank_by_fused_kernels(rank: int, dtype: torch.dtype) -> None:
    packed = torch.randn(2, *LAYOUTS[rank - 1], 3, 4, 64, device="cuda", dtype=dtype, requires_grad=True)
    query, key, value = packed.unbind(-3)
    output = FUNCTIONS[rank - 1](query, key, value, 5, backend="fused")
    wide = packed.detach().cpu().double().requires_grad_()
    expected = FUNCTIONS[rank - 1](*wide.unbind(-3), 5)
    grad_output = torch.randn_like(output)
    (gradient,) = torch.autograd.grad(output, packed, grad_output)
    (reference,) = torch.autograd.grad(expected, wide, grad_output.cpu().double())
    for result, exact in ((output, expected), (gradient, reference)):
        assert (result.cpu().double() - exact).norm() <= FUSED_ERROR[dtype] * exact.norm()


@on_hopper
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_modules_of_each_rank(rank: int, compiled: bool) -> None:
    torch.manual_seed(0)
    here = MODULES[rank - 1](64, 2, 5).double()
    there = MODULES[rank - 1](64, 2, 5).cuda().half()
    there.load_state_dict(here.state_dict())
    run = torch.compile(there, fullgraph=True) if compiled else there
    tokens = torch.randn(2, *LAYOUTS[rank - 1], 64, dtype=torch.float64, requires_grad=True)
    halves = tokens.detach().cuda().half().requires_grad_()
    output, expected = run(halves), here(tokens)
    output.backward(torch.ones_like(output))
    expected.backward(torch.ones_like(expected))
    for result, exact in (
        (output, expected),
        (halves.grad, tokens.grad),
        (there.qkv.weight.grad, here.qkv.weight.grad),
    ):
        assert (result.cpu().double() - exact).norm() <= 1e-2 * exact.norm()


@on_hopper
def test_forced_tiles_by_fused_kernels() -> None:
    query, key, value = (torch.randn(1, 20, 18, 2, 64, device="cuda", dtype=torch.float16) for _ in range(3))
    tiling = vicinal.Tiling(query_tile=(4, 9), key_tile=(5, 9), block=(1, 1), rows=64, columns=64)
    output = vicinal.na2d(query, key, value, 7, tiling=tiling, backend="fused")
    expected = vicinal.na2d(*(x.cpu().double() for x in (query, key, value)), 7)
    assert (output.cpu().double() - expected).norm() <= FUSED_ERROR[torch.float16] * expected.norm()


def replays(problem: Problem, dtype: torch.dtype, present, step):
    """What a captured step gives when its inputs have got new values: for each of two seeds."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for seed in (1, 2):
        with torch.no_grad():
            for x, fresh in zip(present, [x for x in problem.tensors(seed, dtype) if x is not None], strict=True):
                x.copy_(fresh)
        graph.replay()
        yield captured


CAPTURED = {
    "pairs": Problem((40, 40), (7, 7), (1, 1), (1, 1), (False, False), heads=4, heads_kv=4, dim=32, dim_v=32),
    "shared tiles": Problem((512,), (512,), (1,), (1,), (False,), heads=2, heads_kv=2, dim=128, dim_v=128),
    "causal": Problem((2000,), (1500,), (1,), (1,), (True,), heads=4, heads_kv=4, dim=64, dim_v=64),
    "extra tokens": Problem(
        (9, 10, 11), (3, 5, 3), (1, 2, 1), (1, 2, 1), (False, True, False), 2, 4, 2, 64, 48, additional_tokens=5
    ),
}


@on_hopper
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CAPTURED)
def test_graph_capture_of_fused_kernels(
    name: str, dtype: torch.dtype, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    problem = CAPTURED[name]
    inputs = on("cuda", problem.tensors(dtype=dtype, requires_grad=True))
    present = [x for x in inputs if x is not None]

    def step():
        output, logsumexp = attend(problem, inputs, backend="fused")
        return output, *torch.autograd.grad(output.float().square().sum() + logsumexp.sum(), present)

    for replayed in replays(problem, dtype, present, step):
        for result, expected in zip(replayed, step(), strict=True):
            if deterministic:
                assert_close(result, expected, rtol=0, atol=0)
            else:
                assert (result.double() - expected.double()).norm() <= FUSED_ERROR[dtype] * expected.double().norm()


def test_another_stream() -> None:
    inputs = on("cuda", PROBLEM.tensors(dtype=torch.float32, requires_grad=True))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # work on another stream than this one would be too early
        results = attend(PROBLEM, [x if x is None else x * 1 for x in inputs])
    torch.cuda.current_stream().wait_stream(stream)
    expect_dense_results(PROBLEM, inputs, results, 2e-5)


def test_workspace_is_not_taken_from_a_stream_that_uses_it() -> None:
    inputs = on("cuda", PROBLEM.tensors(dtype=torch.float32))
    expected = attend(PROBLEM, inputs)[0]
    for _ in range(50):
        output = attend(PROBLEM, inputs)[0]
        torch.full((1 << 16,), torch.nan, device="cuda")  # takes memory that was freed
        assert_close(output, expected, rtol=0, atol=0)


def test_graph_capture_and_replay() -> None:
    inputs = on("cuda", PROBLEM.tensors(dtype=torch.float32, requires_grad=True))
    present = [x for x in inputs if x is not None]

    def step():
        output, logsumexp = attend(PROBLEM, inputs)
        return torch.autograd.grad(output.square().sum() + logsumexp.sum(), present)

    for replayed in replays(PROBLEM, torch.float32, present, step):
        for gradient, expected in zip(replayed, step(), strict=True):
            assert_close(gradient, expected, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_in_one_graph(backend: str) -> None:
    inputs = on("cuda", PROBLEM.tensors(dtype=torch.float32, requires_grad=True))
    present = [x for x in inputs if x is not None]

    def step(*tensors):
        output, logsumexp = attend(PROBLEM, tensors)
        return (output * 2).sum() + logsumexp.sum()

    expected = torch.autograd.grad(step(*inputs), present)
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    for gradient, reference in zip(torch.autograd.grad(compiled(*inputs), present), expected, strict=True):
        assert_close(gradient, reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    inputs = on("cuda", PROBLEM.tensors(dtype=torch.float32, requires_grad=True))
    with torch.autocast("cuda", dtype):
        output, _ = attend(PROBLEM, inputs)
    assert output.dtype == dtype
    narrow = [x if x is None else x.detach().to(dtype) for x in inputs]
    assert_close(output, attend(PROBLEM, narrow)[0], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(output.sum(), inputs[0])
    assert gradient.dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)],
)
def test_unfused_operators_agree_with_those_of_the_cpu(dtype: torch.dtype, tolerance: float) -> None:
    inputs = PROBLEM.tensors(dtype=dtype)
    rpb = torch.randn(4, 5, 9).to(dtype)
    parameters = {name: x for name, x in PROBLEM.parameters.items() if name != "scale"}

    def step(device: str):
        query, key, value, bias = (x.to(device).requires_grad_() for x in (*inputs[:3], rpb))
        attn = vicinal.na2d_qk(query, key, rpb=bias, **parameters).softmax(-1)
        output = vicinal.na2d_av(attn, value, **parameters)
        return output, *torch.autograd.grad(output.square().sum(), (query, key, value, bias))

    for result, expected in zip(step("cuda"), step("cpu"), strict=True):
        assert_close(result.cpu(), expected, rtol=4 * tolerance, atol=4 * tolerance * float(expected.abs().max()))


def test_same_bits_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    inputs = on("cuda", PROBLEM.tensors(dtype=torch.float16, requires_grad=True))
    present = [x for x in inputs if x is not None]
    runs = [torch.autograd.grad(attend(PROBLEM, inputs)[0].sum(), present) for _ in range(3)]
    for run in runs[1:]:
        for gradient, first in zip(run, runs[0], strict=True):
            assert_close(gradient, first, rtol=0, atol=0)


def test_tensors_on_different_devices_are_refused() -> None:
    query, key, value, *_ = on("cuda", PROBLEM.tensors(dtype=torch.float32))
    with pytest.raises(ValueError, match="key is on device cpu"):
        attend(PROBLEM, (query, key.cpu(), value, None, None))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has one CUDA device")
def test_a_device_that_is_not_current() -> None:
    inputs = on("cuda:1", PROBLEM.tensors(dtype=torch.float32, requires_grad=True))
    assert torch.cuda.current_device() == 0
    expect_dense_results(PROBLEM, inputs, attend(PROBLEM, inputs), 2e-5)
