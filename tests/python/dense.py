"""Neighborhood attention as dense attention with a mask, in PyTorch: slow, obvious and differentiable."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))

from reference import axis_neighbors, inputs  # noqa: E402


@dataclass
class Problem:
    """The parameters of a call and the sizes of its tensors."""

    layout: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    is_causal: tuple[bool, ...]
    batch: int = 1
    heads: int = 1
    heads_kv: int = 1
    dim: int = 8
    dim_v: int = 8
    additional_tokens: int = 0
    scale: float | None = None
    name: str = field(default="", compare=False)

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "dilation": self.dilation,
            "is_causal": self.is_causal,
            "scale": self.scale,
        }

    def tensors(self, seed: int = 0, dtype: torch.dtype = torch.float64, requires_grad: bool = False) -> list[Any]:
        """query, key, value, additional_keys, additional_values; None for absent ones."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [
            (self.batch, *self.layout, self.heads, self.dim),
            (self.batch, *self.layout, self.heads_kv, self.dim),
            (self.batch, *self.layout, self.heads_kv, self.dim_v),
        ]
        if self.additional_tokens:
            shapes.append((self.batch, self.additional_tokens, self.heads_kv, self.dim))
            shapes.append((self.batch, self.additional_tokens, self.heads_kv, self.dim_v))
        made = [
            torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(requires_grad)
            for s in shapes
        ]
        return made + [None] * (5 - len(made))

    def mask(self) -> torch.Tensor:
        """[tokens, tokens], true where the query attends to the key."""
        axes = [torch.zeros(extent, extent, dtype=torch.bool) for extent in self.layout]
        for axis, sees in enumerate(axes):
            for i in range(len(sees)):
                sees[i, axis_neighbors(i, len(sees), *(p[axis] for p in self._per_axis))] = True
        mask = axes[0]
        for sees in axes[1:]:
            mask = torch.kron(mask.to(torch.uint8), sees.to(torch.uint8)).bool()
        return mask

    @property
    def _per_axis(self) -> tuple[Any, ...]:
        return self.kernel_size, self.dilation, self.stride, self.is_causal


def attention(problem: Problem, query, key, value, additional_keys=None, additional_values=None):
    """Output and logsumexp, in the dtype of the tensors."""
    share = problem.heads // problem.heads_kv
    query = query.flatten(1, -3)  # [batch, tokens, heads, dim]
    key, value = (x.flatten(1, -3).repeat_interleave(share, -2) for x in (key, value))
    mask = problem.mask()
    if additional_keys is not None:
        key = torch.cat([key, additional_keys.repeat_interleave(share, -2)], 1)
        value = torch.cat([value, additional_values.repeat_interleave(share, -2)], 1)
        mask = torch.cat([mask, torch.ones(len(mask), problem.additional_tokens, dtype=torch.bool)], 1)
    scale = problem.dim**-0.5 if problem.scale is None else problem.scale
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * scale
    scores = scores.masked_fill(~mask, -torch.inf)
    output = torch.einsum("bhqk,bkhe->bqhe", scores.softmax(-1), value)
    logsumexp = scores.logsumexp(-1).transpose(1, 2)
    rows = (problem.batch, *problem.layout, problem.heads)
    return output.reshape(*rows, problem.dim_v), logsumexp.reshape(rows)


def random_problem(seed: int) -> Problem:
    """A small problem of any rank with any combination of parameters."""
    random = np.random.default_rng(seed)
    rank = int(random.integers(1, 4))
    layout = tuple(int(random.integers(1, (40, 12, 6)[rank - 1])) for _ in range(rank))
    dilation = tuple(int(random.integers(1, min(3, extent) + 1)) for extent in layout)
    kernel_size = tuple(int(random.integers(1, extent // d + 1)) for extent, d in zip(layout, dilation, strict=True))
    heads_kv = int(random.integers(1, 3))
    return Problem(
        layout,
        kernel_size,
        tuple(int(random.integers(1, k + 1)) for k in kernel_size),
        dilation,
        tuple(bool(random.integers(2)) for _ in layout),
        batch=int(random.integers(1, 3)),
        heads=heads_kv * int(random.integers(1, 3)),
        heads_kv=heads_kv,
        dim=int(random.integers(1, 20)),
        dim_v=int(random.integers(1, 20)),
        additional_tokens=int(random.integers(0, 4)),
        scale=(None, 0.0, -0.3, 1.5)[int(random.integers(4))],
        name=f"seed {seed}",
    )


@dataclass
class GoldenCase:
    """A recorded case: NumPy float32 inputs and results."""

    problem: Problem
    inputs: list[np.ndarray | None]  # query, key, value, additional_keys, additional_values
    grad_output: np.ndarray
    recorded: dict[str, np.ndarray]  # out, lse, dq, dk, dv, and dek, dev where there are additional tokens


def golden_cases() -> list[GoldenCase]:
    recorded = np.load(GOLDEN / "cases.npz")
    cases = []
    for case in json.loads((GOLDEN / "cases.json").read_text()):
        problem = Problem(
            *(tuple(case[x]) for x in ("layout", "window", "stride", "dilation")),
            tuple(map(bool, case["causal"])),
            *(case[x] for x in ("batch", "heads", "heads_kv", "dim", "dim_v", "extra_kv")),
            name=f"case {case['id']}",
        )
        query, key, value, grad_output, additional_keys, additional_values = inputs(case)
        names = itertools.chain(("out", "lse", "dq", "dk", "dv"), ("dek", "dev") if case["extra_kv"] else ())
        cases.append(
            GoldenCase(
                problem,
                [query, key, value, additional_keys, additional_values],
                grad_output,
                {name: recorded[f"{case['id']}.{name}"] for name in names},
            )
        )
    return cases
