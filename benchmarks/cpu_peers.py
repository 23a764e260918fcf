"""What PyTorch offers for the same result on a CPU: the alternatives that Vicinal is measured against.

Each is given the memory layout that it prefers, and whatever depends on the problem only (masks, block masks, index
tables, compiled code) is made before the clock runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import embedding, scaled_dot_product_attention

from benchmarks.measure import Contender, timed
from benchmarks.problem import Problem, Tensors

MASK_LIMIT_BYTES = 2 << 30
GATHER_BYTES = 64 << 20  # of keys gathered at a time

torch._dynamo.config.recompile_limit = 64  # one graph for each problem's shapes


@dataclass
class Peer:
    """A contender, what it computes, and by how much it was cut down to be measured quickly."""

    contender: Contender
    output: Callable[[], torch.Tensor]
    """The result of the forward pass, [heads, tokens, dim]."""


def dense_sdpa(tensors: Tensors, backward: bool) -> Peer:
    """`scaled_dot_product_attention` without a mask."""
    return _sdpa("SDPA", tensors, None, backward)


def masked_sdpa(problem: Problem, tensors: Tensors, backward: bool) -> Peer:
    """`scaled_dot_product_attention` with an additive mask, which it takes without converting it first."""
    return _sdpa("masked SDPA", tensors, _additive_mask(problem), backward)


def _sdpa(name: str, tensors: Tensors, mask: torch.Tensor | None, backward: bool) -> Peer:
    if not backward:

        def attend() -> torch.Tensor:
            return scaled_dot_product_attention(*tensors.inputs, attn_mask=mask)

        return Peer(Contender(name, timed(attend)), lambda: attend()[0])
    leaves = tensors.requiring_grad()
    output = scaled_dot_product_attention(*leaves.inputs, attn_mask=mask)
    return Peer(Contender(name, timed(backward_of(output, leaves))), lambda: output[0].detach())


def backward_of(output: torch.Tensor, leaves: Tensors) -> Callable[[], object]:
    """The backward pass of a graph that was recorded before, again and again."""
    return lambda: torch.autograd.grad(output, leaves.inputs, leaves.grad, retain_graph=True)


def mask_bytes(problem: Problem) -> int:
    return 4 * problem.tokens**2


def _coordinates(problem: Problem) -> tuple[torch.Tensor, ...]:
    """Per axis, the coordinate of each token."""
    return torch.unravel_index(torch.arange(problem.tokens), problem.layout)


@lru_cache(maxsize=1)
def _additive_mask(problem: Problem) -> torch.Tensor:
    visible = torch.ones(problem.tokens, problem.tokens, dtype=torch.bool)
    for at, starts, window in zip(_coordinates(problem), problem.starts, problem.window, strict=True):
        first = starts[at][:, None]
        visible &= (first <= at) & (at < first + window)
    return torch.zeros(visible.shape).masked_fill_(~visible, float("-inf"))


@lru_cache(maxsize=1)
def _block_mask(problem: Problem) -> BlockMask:
    # The window's bounds are tensors, so that all windows of a layout share one compiled kernel.
    coordinates = [at.clone() for at in _coordinates(problem)]
    first = [starts[at] for starts, at in zip(problem.starts, coordinates, strict=True)]
    last = [f + (w - 1) for f, w in zip(first, problem.window, strict=True)]

    def visible(_batch, _head, query, key):
        inside = first[0][query] <= coordinates[0][key]
        for at, begin, end in zip(coordinates, first, last, strict=True):
            inside = inside & (begin[query] <= at[key]) & (at[key] <= end[query])
        return inside

    return create_block_mask(visible, None, None, problem.tokens, problem.tokens, device="cpu")


_compiled_flex_attention = torch.compile(flex_attention, fullgraph=True, dynamic=False)


def flex(problem: Problem, tensors: Tensors) -> Peer:
    """Compiled FlexAttention with a block mask; on a CPU it has no backward pass."""
    mask = _block_mask(problem)

    def attend() -> torch.Tensor:
        return _compiled_flex_attention(*tensors.inputs, block_mask=mask)

    return Peer(Contender("FlexAttention", timed(attend)), lambda: attend()[0])


@lru_cache(maxsize=1)
def _neighbors(problem: Problem) -> torch.Tensor:
    """[tokens, window volume]: the tokens that each token attends to."""
    table = torch.zeros(1, 1, dtype=torch.int64)
    for extent, starts, window in zip(problem.layout, problem.starts, problem.window, strict=True):
        axis = starts[:, None] + torch.arange(window)
        table = (table[:, None, :, None] * extent + axis[None, :, None, :]).flatten(2).flatten(0, 1)
    return table


@torch.compile(dynamic=False)
def _attend_gathered(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    # Heads last; the compiler fuses the gathers with the sums, so that no gathered tensor is ever written.
    heads, dim = query.shape[-2:]
    keys = embedding(index, key.flatten(-2)).unflatten(-1, (heads, dim))
    values = embedding(index, value.flatten(-2)).unflatten(-1, (heads, dim))
    scores = (keys * query.unsqueeze(1)).sum(-1) * dim**-0.5
    return (scores.softmax(1).unsqueeze(-1) * values).sum(1)


def unfolded(problem: Problem, tensors: Tensors) -> Peer:
    """Unfolded attention, forward: each query's neighborhood is gathered, by compiled code that fuses it all."""
    query, key, value = (x[0].transpose(0, 1).contiguous() for x in tensors.inputs)
    table = _neighbors(problem)

    def attend() -> torch.Tensor:
        chunks = zip(query.split(2048), table.split(2048), strict=True)
        return torch.cat([_attend_gathered(part, key, value, index) for part, index in chunks])

    return Peer(Contender("unfolded", timed(attend)), lambda: attend().transpose(0, 1))


def unfolded_backward(problem: Problem, tensors: Tensors) -> Peer:
    """Unfolded attention, backward: eager, since compiled scatters are slower; some queries at a time, since all of
    the gathered keys would fill gigabytes. Only the backward pass of each chunk counts."""
    leaves = tensors.requiring_grad()
    table = _neighbors(problem)
    heads, tokens, dim = leaves.query.shape[1:]
    rows = max(1, GATHER_BYTES // (4 * heads * dim * table.shape[1]))

    def attend(begin: int) -> torch.Tensor:
        index = table[begin : begin + rows]
        query = leaves.query[0, :, begin : begin + rows, :, None]
        keys, values = (
            x[0].index_select(1, index.flatten()).unflatten(1, index.shape) for x in (leaves.key, leaves.value)
        )
        weights = (keys @ query * dim**-0.5).softmax(-2)
        return (weights.transpose(-1, -2) @ values).squeeze(-2)

    def run() -> float:
        seconds = 0.0
        for begin in range(0, tokens, rows):
            chunk = Tensors(*leaves.inputs, leaves.grad[0, :, begin : begin + rows])
            seconds += timed(backward_of(attend(begin), chunk))()
        return seconds

    def output() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([attend(begin) for begin in range(0, tokens, rows)], dim=1)

    return Peer(Contender("unfolded", run), output)
