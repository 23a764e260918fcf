"""Gradients in 16 bits against differences of float64 results along random directions, as gradcheck has it."""

from __future__ import annotations

import pytest
import torch
from calls import attend
from dense import Problem, attention

STEP = 1e-4
DIRECTIONS = 8
MOST_ERROR = {torch.float16: 4e-3, torch.bfloat16: 2e-2}  # of the norm of the gradient; a fifth of it is rounding

PROBLEMS = [
    Problem((700,), (101,), (1,), (3,), (True,), heads=4, heads_kv=2, dim=64, dim_v=64),
    Problem((24, 20), (7, 9), (2, 1), (2, 1), (False, True), batch=2, heads=2, heads_kv=2, dim=128, dim_v=96),
    Problem((8, 10, 9), (3, 5, 4), (1, 2, 1), (1, 1, 2), (False, False, True), heads=2, heads_kv=1, dim=32, dim_v=32),
    Problem((9, 40), (9, 16), (1, 4), (1, 2), (False, False), heads=2, heads_kv=2, dim=192, dim_v=160),
    Problem(
        (19, 17), (5, 6), (1, 1), (3, 1), (True, False), heads=4, heads_kv=2, dim=48, dim_v=56, additional_tokens=9
    ),
]

on_hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9,
    reason="this machine has no Hopper GPU, and the fused kernels on CUDA are for Hopper",
)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_hopper)])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: "x".join(map(str, problem.layout)))
def test_directional_derivatives(
    problem: Problem, dtype: torch.dtype, deterministic: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    inputs = problem.tensors(dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    rows = (problem.batch, *problem.layout, problem.heads)
    of_output = torch.randn(*rows, problem.dim_v, generator=generator).to(dtype)
    of_logsumexp = torch.randn(*rows, generator=generator)

    def loss(tensors) -> torch.Tensor:
        output, logsumexp = attention(problem, *tensors)
        return (output * of_output.double()).sum() + (logsumexp * of_logsumexp.double()).sum()

    leaves = [x if x is None else x.to(device).requires_grad_() for x in inputs]
    present = [x for x in leaves if x is not None]
    results = attend(problem, leaves, backend="fused")
    gradients = torch.autograd.grad(results, present, [of_output.to(device), of_logsumexp.to(device)])

    wide = [x if x is None else x.double() for x in inputs]
    for number, gradient in enumerate(gradients):
        gradient = gradient.cpu().double()
        for _ in range(DIRECTIONS):
            direction = torch.randint(0, 2, gradient.shape, generator=generator).double() * 2 - 1

            def at(step: float, number=number, direction=direction) -> torch.Tensor:
                return loss([x + step * direction if i == number else x for i, x in enumerate(wide)])

            expected = (at(STEP) - at(-STEP)) / (2 * STEP)
            assert abs((gradient * direction).sum() - expected) <= MOST_ERROR[dtype] * gradient.norm()
