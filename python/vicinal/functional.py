"""Neighborhood attention on 1-D, 2-D and 3-D token grids."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vicinal import _numpy
from vicinal._parameters import ignore_natten, make_parameters

__all__ = ["na1d", "na2d", "na3d", "neighborhood_attention_generic"]


def na1d(
    query: Any,
    key: Any,
    value: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    is_causal: bool | Sequence[bool] = False,
    scale: float | None = None,
    additional_keys: Any = None,
    additional_values: Any = None,
    backend: str | None = None,
    return_lse: bool = False,
    **tuning: Any,
) -> Any:
    """Neighborhood attention on a sequence of tokens: `neighborhood_attention_generic` with one axis, X.

    query is [batch, X, heads, dim], key [batch, X, heads_kv, dim], value [batch, X, heads_kv, dim_v].
    """
    return _attention(
        1, query, key, value, kernel_size, stride, dilation, is_causal, scale, additional_keys, additional_values,
        backend, return_lse, tuning,
    )  # fmt: skip


def na2d(
    query: Any,
    key: Any,
    value: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    is_causal: bool | Sequence[bool] = False,
    scale: float | None = None,
    additional_keys: Any = None,
    additional_values: Any = None,
    backend: str | None = None,
    return_lse: bool = False,
    **tuning: Any,
) -> Any:
    """Neighborhood attention on a picture: `neighborhood_attention_generic` with two axes, X and Y.

    query is [batch, X, Y, heads, dim], key [batch, X, Y, heads_kv, dim], value [batch, X, Y, heads_kv, dim_v].
    """
    return _attention(
        2, query, key, value, kernel_size, stride, dilation, is_causal, scale, additional_keys, additional_values,
        backend, return_lse, tuning,
    )  # fmt: skip


def na3d(
    query: Any,
    key: Any,
    value: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    is_causal: bool | Sequence[bool] = False,
    scale: float | None = None,
    additional_keys: Any = None,
    additional_values: Any = None,
    backend: str | None = None,
    return_lse: bool = False,
    **tuning: Any,
) -> Any:
    """Neighborhood attention on a volume or a video: `neighborhood_attention_generic` with three axes, X, Y and Z.

    query is [batch, X, Y, Z, heads, dim], key [batch, X, Y, Z, heads_kv, dim], value [batch, X, Y, Z, heads_kv, dim_v].
    """
    return _attention(
        3, query, key, value, kernel_size, stride, dilation, is_causal, scale, additional_keys, additional_values,
        backend, return_lse, tuning,
    )  # fmt: skip


def neighborhood_attention_generic(
    query: Any,
    key: Any,
    value: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    is_causal: bool | Sequence[bool] = False,
    scale: float | None = None,
    additional_keys: Any = None,
    additional_values: Any = None,
    backend: str | None = None,
    return_lse: bool = False,
    **tuning: Any,
) -> Any:
    """Softmax attention in which every token of a grid attends to its nearest neighbors, on 1 to 3 axes.

    Along each axis of extent L, independently: dilation d splits the axis into d interleaved groups; inside its group a
    token attends to the `kernel_size` tokens nearest to it, pushed inward at the borders; each run of `stride` tokens
    shares the window of its leader; a causal axis keeps only the tokens at or before the query. A key is attended when
    every axis agrees; additional tokens are attended by every query. Hassani, Hwu, Shi 2024, "Faster Neighborhood
    Attention", section 2 (arXiv 2403.04690), and docs/semantics.md.

    PyTorch tensors give PyTorch tensors, with gradients of output and logsumexp (first order), under torch.compile,
    torch.export and autocast too. NumPy arrays give NumPy arrays; arrays of other libraries on the CPU that support
    DLPack and the array API give arrays of their library. No input is copied, whatever its strides, as long as its last
    dimension is contiguous: slices of one packed projection, transposed and expanded tensors are read in place.

    Args:
        query: [batch, *layout, heads, dim] in float64, float32, float16 or bfloat16; batch 0 gives empty results.
        key: [batch, *layout, heads_kv, dim], heads a multiple of heads_kv; same dtype and device as query.
        value: [batch, *layout, heads_kv, dim_v]; same dtype and device as query.
        kernel_size: tokens of a window; kernel_size * dilation <= extent. Here and in the next three, one value counts
            for every axis.
        stride: tokens that share a window, 1 to kernel_size.
        dilation: distance of neighboring tokens of a window, at least 1.
        is_causal: whether a token sees only tokens at or before it along an axis.
        scale: factor of the dot products; dim ** -0.5 when None.
        additional_keys: [batch, tokens, heads_kv, dim], seen by every query; None for none.
        additional_values: [batch, tokens, heads_kv, dim_v]; None for none.
        backend: a name from `vicinal info`, such as "fused" or "reference"; None takes the kernel with the lowest cost.
        return_lse: also return the logsumexp of the scaled scores.
        **tuning: NATTEN's tuning keywords, ignored with a warning.

    Returns:
        output [batch, *layout, heads, dim_v], contiguous, in the dtype of query; with return_lse a pair of it and
        logsumexp [batch, *layout, heads], natural logarithm, float32 (float64 for float64 inputs).

    Raises:
        ValueError: an argument is outside its allowed range, or a shape, dtype, device or stride does not fit.
        TypeError: an argument is of the wrong type.
        NotImplementedError: no kernel of this build can do it on this device; torch.vmap; second derivatives.
    """
    rank = getattr(query, "ndim", 0) - 3
    if rank not in (1, 2, 3):
        raise ValueError(f"query has {rank + 3} dimensions; allowed: 4 to 6, [batch, *layout, heads, dim]")
    return _attention(
        rank, query, key, value, kernel_size, stride, dilation, is_causal, scale, additional_keys, additional_values,
        backend, return_lse, tuning,
    )  # fmt: skip


def _attention(
    rank, query, key, value, kernel_size, stride, dilation, is_causal, scale, additional_keys, additional_values,
    backend, return_lse, tuning,
):  # fmt: skip
    attention = _implementations.get(type(query)) or _implementation_for(query)
    if tuning or backend is not None:
        backend = ignore_natten(backend, tuning)
    parameters = make_parameters(rank, kernel_size, stride, dilation, is_causal, scale, backend)
    return attention(query, key, value, additional_keys, additional_values, parameters, return_lse)


# By the exact type of the query. PyTorch's are added when its first tensor comes, so that PyTorch is never imported for
# who does not use it.
_implementations: dict[type, Callable[..., Any]] = {np.ndarray: _numpy.attention}


def _implementation_for(query):
    torch = sys.modules.get("torch")  # who has a tensor has imported torch
    if torch is not None and isinstance(query, torch.Tensor):
        from vicinal._torch import attention

        _implementations[torch.Tensor] = attention
        return attention
    return _numpy.attention if isinstance(query, np.ndarray) else _numpy.attention_through_dlpack
