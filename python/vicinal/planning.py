"""What would run for a problem, before there are tensors."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from vicinal import _ext
from vicinal._numpy import DTYPE_NAMES
from vicinal._parameters import Tiling, make_parameters

__all__ = ["plan"]


def plan(
    layout: int | Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    is_causal: bool | Sequence[bool] = False,
    batch: int = 1,
    heads: int = 1,
    heads_kv: int | None = None,
    dim: int = 64,
    dim_v: int | None = None,
    additional_tokens: int = 0,
    scale: float | None = None,
    dtype: Any = "fp32",
    operation: str = "forward",
    backend: str | None = None,
    tiling: Tiling | None = None,
    deterministic: bool = False,
) -> _ext.Plan:
    """The plan for a problem on the CPU; `print(plan(...))` explains it.

    Args:
        layout: extents of the token grid, 1 to 3 of them; an integer counts as one.
        kernel_size, stride, dilation, is_causal, scale, backend: as in `vicinal.neighborhood_attention_generic`.
        batch, heads, dim: as in the shape of query.
        heads_kv: heads of key and value; None for heads.
        dim_v: head dim of value; None for dim.
        additional_tokens: number of additional keys and values.
        dtype: "fp64", "fp32", "fp16", "bf16", or a NumPy or PyTorch dtype.
        operation: "forward" or "backward"; of the unfused operators "pointwise_neighborhood" (the qk functions),
            "neighborhood_neighborhood" (the av functions), "inverse_neighborhood" or "bias_gradient".
        tiling: tile shapes to force; None leaves them to the planner.
        deterministic: only kernels that give the same bits in every run, as backward passes take them under
            `torch.use_deterministic_algorithms(True)`.

    Returns:
        A `vicinal.Plan`: the kernel, its tiles, multiply-adds visited and needed, bytes, workspace, and why the other
        kernels were not chosen.

    Raises:
        ValueError: an argument is outside its allowed range.
        TypeError: an argument is of the wrong type.
        NotImplementedError: no kernel of this build can do it.
    """
    extents = tuple(map(operator.index, layout if isinstance(layout, Sequence) else (layout,)))
    if not 1 <= len(extents) <= 3:
        raise ValueError(f"layout = {layout!r}; allowed: 1 to 3 extents")
    tilings = (None, tiling) if operation == "backward" else (tiling, None)
    parameters = make_parameters(len(extents), kernel_size, stride, dilation, is_causal, scale, backend, *tilings)
    return _ext.plan(
        parameters,
        extents,
        batch,
        heads,
        heads if heads_kv is None else heads_kv,
        dim,
        dim if dim_v is None else dim_v,
        additional_tokens,
        _vicinal_name(dtype),
        operation,
        deterministic,
    )


def _vicinal_name(dtype: Any) -> str:
    name = np.dtype(dtype).name if isinstance(dtype, type) else str(dtype).removeprefix("torch.")
    name = DTYPE_NAMES.get(name, name)
    if name not in DTYPE_NAMES.values():
        raise ValueError(f"dtype = {dtype!r}; allowed: {', '.join(DTYPE_NAMES.values())}, or NumPy's or PyTorch's")
    return name
