"""The problems of a suite, and their tensors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import vicinal

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Problem:
    """A problem with stride and dilation 1 and no causal axis; fp32."""

    name: str
    layout: tuple[int, ...]
    window: tuple[int, ...]
    heads: int
    dim: int

    @property
    def is_dense(self) -> bool:
        return self.window == self.layout

    @property
    def tokens(self) -> int:
        return math.prod(self.layout)

    @property
    def dense(self) -> Problem:
        """The same tokens with the window equal to the extent."""
        return Problem(f"{self.name} dense", self.layout, self.layout, self.heads, self.dim)

    @cached_property
    def starts(self) -> list[torch.Tensor]:
        """Per axis, the first token of each position's window: centered, pushed inward at the borders."""
        return [
            (torch.arange(extent) - window // 2).clamp(0, extent - window)
            for extent, window in zip(self.layout, self.window, strict=True)
        ]

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Vicinal's result, heads last."""
        return vicinal.neighborhood_attention_generic(query, key, value, self.window)

    def plan(self, operation: str) -> vicinal.Plan:
        return vicinal.plan(
            layout=self.layout, kernel_size=self.window, heads=self.heads, dim=self.dim, operation=operation
        )


@dataclass
class Tensors:
    """Random inputs, and the gradient of the output, in one memory layout."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    grad: torch.Tensor

    @property
    def inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.query, self.key, self.value

    def requiring_grad(self) -> Tensors:
        return Tensors(*(x.detach().clone().requires_grad_() for x in self.inputs), self.grad)

    def heads_first(self, heads: int) -> Tensors:
        """[1, heads, tokens, dim], contiguous, of the first few heads: what PyTorch's attention prefers."""
        return Tensors(
            *(x.flatten(1, -3)[:, :, :heads].transpose(1, 2).contiguous() for x in (*self.inputs, self.grad))
        )


def random_tensors(problem: Problem, seed: int = 0) -> Tensors:
    """[1, *layout, heads, dim], contiguous."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, *problem.layout, problem.heads, problem.dim)
    return Tensors(*(torch.randn(shape, generator=generator) for _ in range(4)))


def load_suite(name: str) -> list[Problem]:
    def axes(value: int | list[int], rank: int) -> tuple[int, ...]:
        return (value,) * rank if isinstance(value, int) else tuple(value)

    problems = []
    for entry in json.loads((SUITES / f"{name}.json").read_text()):
        layout = axes(entry["layout"], 1)
        problems.append(
            Problem(entry["name"], layout, axes(entry["window"], len(layout)), entry["heads"], entry["dim"])
        )
    return problems
