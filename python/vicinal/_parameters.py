"""From the arguments of a call to the parameters of a neighborhood; and what NATTEN's users may pass beyond them."""

from __future__ import annotations

import math
import numbers
import operator
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

# What does not depend on the tensors, one value per axis in the first four: kernel_size, stride, dilation, is_causal,
# scale, backend, tilings. The last arguments of the PyTorch operators. The tilings are empty, or of the forward and
# then of the backward pass query_tile, key_tile, block, rows and columns, 0 for what the planner is to choose.
Parameters: TypeAlias = tuple[
    tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[bool, ...], float | None, str | None, tuple[int, ...]
]
PARAMETER_COUNT = 7


class Tiling(NamedTuple):
    """Tile shapes to force on a kernel; the planner chooses what is None. One value counts for every axis.

    A `Plan` has the same fields, in what the planner chose. Which shapes a kernel takes is its own matter: ValueError
    or NotImplementedError says what is allowed.
    """

    query_tile: int | Sequence[int] | None = None
    """Queries that share one softmax block, per axis."""
    key_tile: int | Sequence[int] | None = None
    """Keys of one tile, per axis."""
    block: int | Sequence[int] | None = None
    """Query tiles of one work item, per axis."""
    rows: int | None = None
    """Query slots computed per query tile, padding included."""
    columns: int | None = None
    """Key slots computed per key tile, padding included."""


def make_parameters(
    rank: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int],
    dilation: int | Sequence[int],
    is_causal: bool | Sequence[bool],
    scale: float | None,
    backend: str | None,
    tiling: Tiling | None = None,
    backward_tiling: Tiling | None = None,
) -> Parameters:
    """Broadcasts scalars over the axes and checks types; which values are legal depends on the tensors."""
    return (
        (kernel_size,) * rank if type(kernel_size) is int else _integers("kernel_size", kernel_size, rank),
        (stride,) * rank if type(stride) is int else _integers("stride", stride, rank),
        (dilation,) * rank if type(dilation) is int else _integers("dilation", dilation, rank),
        (is_causal,) * rank if type(is_causal) is bool else _booleans("is_causal", is_causal, rank),
        scale if scale is None or type(scale) is float else _number("scale", scale),
        backend if backend is None or type(backend) is str else _name("backend", backend),
        () if tiling is backward_tiling is None else _tilings(tiling, backward_tiling, rank),
    )


def _tilings(tiling: Tiling | None, backward_tiling: Tiling | None, rank: int) -> tuple[int, ...]:
    values: list[int] = []
    for argument, forced in (("tiling", tiling), ("backward_tiling", backward_tiling)):
        if forced is not None and not isinstance(forced, Tiling):
            raise TypeError(f"{argument} = {forced!r}; allowed: a vicinal.Tiling or None")
        for name, value in (forced or Tiling())._asdict().items():
            count = 1 if name in ("rows", "columns") else rank
            extents = (0,) * count if value is None else _integers(f"{argument}.{name}", value, count)
            if value is not None and min(extents) < 1:
                raise ValueError(f"{argument}.{name} = {value!r}; allowed: at least 1")
            values += extents
    return tuple(values)


def window_size(kernel_size: Sequence[int]) -> int:
    """Tokens of a window; 0 where an extent is none, which the extension refuses."""
    return math.prod(max(extent, 0) for extent in kernel_size)


def _integers(name: str, value: Any, rank: int) -> tuple[int, ...]:
    allowed = f"an integer or {rank} integers, one per axis"
    values = _one_per_axis(name, value, rank, allowed)
    if any(isinstance(v, bool) or not hasattr(v, "__index__") for v in values):
        raise TypeError(f"{name} = {value!r}; allowed: {allowed}")
    return tuple(operator.index(v) for v in values)


def _booleans(name: str, value: Any, rank: int) -> tuple[bool, ...]:
    allowed = f"a bool or {rank} bools, one per axis"
    values = _one_per_axis(name, value, rank, allowed)
    if not all(isinstance(v, (bool, np.bool_)) for v in values):
        raise TypeError(f"{name} = {value!r}; allowed: {allowed}")
    return tuple(bool(v) for v in values)


def _one_per_axis(name: str, value: Any, rank: int, allowed: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (value,) * rank
    if len(value) != rank:
        raise ValueError(f"{name} = {value!r}; allowed: {allowed}")
    return tuple(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"{name} = {value!r}; allowed: a number or None")


def _name(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{name} = {value!r}; allowed: a name or None")


# NATTEN's names, so that changing an import is enough to move over.
_NATTEN_BACKENDS = frozenset({"cutlass-fna", "hopper-fna", "blackwell-fna", "flex-fna"})
_NATTEN_TUNING = frozenset(
    {
        "attention_kwargs",
        "backward_kv_splits",
        "backward_kv_tile_shape",
        "backward_q_tile_shape",
        "backward_use_pt_reduction",
        "kernel_schedule",
        "kv_tile_shape",
        "q_tile_shape",
        "run_persistent_kernel",
        "torch_compile",
    }
)


def ignore_natten(backend: Any, tuning: dict[str, Any]) -> Any:
    """Accepts NATTEN's tuning keywords, and no others; gives None for NATTEN's backends."""
    for name in tuning:
        if name not in _NATTEN_TUNING:
            raise TypeError(f"neighborhood attention has no argument {name!r}")
        warn_once(name, "Vicinal chooses tiles and schedules itself")
    if backend in _NATTEN_BACKENDS:
        warn_once(f"backend={backend!r}", "Vicinal has kernels of its own and takes the one with the lowest cost")
        return None
    return backend


_warned: set[str] = set()


def warn_once(argument: str, reason: str) -> None:
    """Says so at most once in a process, where the caller of a public function stands."""
    if argument not in _warned:
        _warned.add(argument)
        warnings.warn(f"{argument} is accepted for NATTEN's sake and ignored: {reason}", stacklevel=4)
