"""The problems of a suite, and their tensors."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
import vicinal

SUITES = Path(__file__).parent / "suites"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class Axis(NamedTuple):
    extent: int
    window: int
    dilation: int
    stride: int
    causal: bool


def keys_of(axis: Axis, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first position that each query of an axis attends to, and the one after the last; positions count the tokens
    of the query's dilation group."""
    local, group = (query // axis.dilation, query % axis.dilation) if axis.dilation > 1 else (query, 0)
    members = (axis.extent - group + axis.dilation - 1) // axis.dilation  # a number where it is the same for all
    leader = local
    if axis.stride > 1:
        middle = axis.stride - 1 if axis.causal else axis.stride // 2
        leader = (local // axis.stride * axis.stride + middle).clamp(max=members - 1)
    if axis.causal:
        return (leader - axis.window + 1).clamp(min=0), local + 1
    begin = (leader - axis.window // 2).clamp(max=members - axis.window).clamp(min=0)
    return begin, begin + axis.window


def attends(axes: tuple[Axis, ...], query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Whether queries attend to keys, both as numbers of tokens; the arguments broadcast. No remainder or quotient is
    taken of both together, so that for all pairs of tokens nothing but booleans is that large."""
    visible = None
    for number in reversed(range(len(axes))):
        axis = axes[number]
        at, of = (query % axis.extent, key % axis.extent) if number else (query, key)
        query, key = query // axis.extent, key // axis.extent
        begin, end = keys_of(axis, at)
        position = of // axis.dilation if axis.dilation > 1 else of
        inside = (begin <= position) & (position < end)
        if axis.dilation > 1:
            inside = inside & (at % axis.dilation == of % axis.dilation)
        visible = inside if visible is None else visible & inside
    return visible


@dataclass(frozen=True)
class Problem:
    """A problem without additional tokens, and with as many heads of keys as of queries."""

    name: str
    layout: tuple[int, ...]
    window: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]
    causal: tuple[bool, ...]
    batch: int
    heads: int
    dim: int
    dtype: str

    @property
    def is_dense(self) -> bool:
        return self.window == self.layout and not any(self.causal)

    @property
    def tokens(self) -> int:
        return math.prod(self.layout)

    @property
    def dense(self) -> Problem:
        """The same tokens, all of which attend to all."""
        ones = (1,) * len(self.layout)
        never = (False,) * len(self.layout)
        name = f"{self.name} dense"
        return replace(self, name=name, window=self.layout, dilation=ones, stride=ones, causal=never)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(map(Axis, self.layout, self.window, self.dilation, self.stride, self.causal))

    @cached_property
    def starts(self) -> list[torch.Tensor]:
        """Per axis, the first token of each token's window. Of problems without dilation."""
        return [keys_of(axis, torch.arange(axis.extent))[0] for axis in self.axes]

    @property
    def parameters(self) -> dict[str, Any]:
        """What describes the problem in a record, as `vicinal bench` writes it there."""
        described = {key: value for key, value in asdict(self).items() if key != "name"}
        described["causal"] = tuple(map(int, self.causal))
        return {key: list(value) if isinstance(value, tuple) else value for key, value in described.items()}

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Vicinal's result, heads last."""
        return vicinal.neighborhood_attention_generic(
            query, key, value, self.window, stride=self.stride, dilation=self.dilation, is_causal=self.causal
        )

    def plan(self, operation: str) -> vicinal.Plan:
        return vicinal.plan(
            layout=self.layout,
            kernel_size=self.window,
            stride=self.stride,
            dilation=self.dilation,
            is_causal=self.causal,
            batch=self.batch,
            heads=self.heads,
            dim=self.dim,
            dtype=self.dtype,
            operation=operation,
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
        """[batch, heads, tokens, dim], contiguous, of the first few heads: what PyTorch's attention prefers."""
        return Tensors(
            *(x.flatten(1, -3)[:, :, :heads].transpose(1, 2).contiguous() for x in (*self.inputs, self.grad))
        )


def random_tensors(problem: Problem, seed: int = 0, device: str = "cpu") -> Tensors:
    """[batch, *layout, heads, dim], contiguous."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (problem.batch, *problem.layout, problem.heads, problem.dim)
    dtype = DTYPES[problem.dtype]
    return Tensors(*(torch.randn(shape, generator=generator, dtype=dtype, device=device) for _ in range(4)))


def load_suite(name: str, dtype: str | None = None) -> list[Problem]:
    """The problems of a suite of this name or in this file; all in one dtype, or each in its own."""

    def axes(value: int | list[int], rank: int) -> tuple[int, ...]:
        return (value,) * rank if isinstance(value, int) else tuple(value)

    problems = []
    path = Path(name) if name.endswith(".json") else SUITES / f"{name}.json"
    for entry in json.loads(path.read_text()):
        layout = axes(entry["layout"], 1)
        rank = len(layout)
        problems.append(
            Problem(
                name=entry["name"],
                layout=layout,
                window=axes(entry["window"], rank),
                dilation=axes(entry.get("dilation", 1), rank),
                stride=axes(entry.get("stride", 1), rank),
                causal=tuple(map(bool, axes(entry.get("causal", 0), rank))),
                batch=entry.get("batch", 1),
                heads=entry["heads"],
                dim=entry["dim"],
                dtype=dtype or entry.get("dtype", "fp32"),
            )
        )
    return problems
