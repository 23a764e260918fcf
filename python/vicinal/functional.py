"""Neighborhood attention on 1-D, 2-D and 3-D token grids."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vicinal import _numpy
from vicinal._parameters import Tiling, ignore_natten, make_parameters

__all__ = ["na1d", "na2d", "na3d", "neighborhood_attention_generic"]


def _function(name: str, rank: int | None, documentation: str) -> Callable[..., Any]:
    """One of the public functions; they differ in the rank that they ask for."""

    def attention(
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
        tiling: Tiling | None = None,
        backward_tiling: Tiling | None = None,
        **tuning: Any,
    ) -> Any:
        run = _implementations.get(type(query)) or _implementation_for(query)
        if tuning or backend is not None:
            backend = ignore_natten(backend, tuning)
        parameters = make_parameters(
            rank or _rank_of(query), kernel_size, stride, dilation, is_causal, scale, backend, tiling, backward_tiling
        )
        return run(query, key, value, additional_keys, additional_values, parameters, return_lse)

    attention.__name__ = attention.__qualname__ = name
    attention.__doc__ = documentation
    return attention


# By the exact type of the query. PyTorch's are added when its first tensor comes, so that PyTorch is never imported for
# who does not use it.
_implementations: dict[type, Callable[..., Any]] = {np.ndarray: _numpy.attention}


def _implementation_for(query: Any) -> Callable[..., Any]:
    torch = sys.modules.get("torch")  # who has a tensor has imported torch
    if torch is not None and isinstance(query, torch.Tensor):
        from vicinal._torch import attention

        _implementations[torch.Tensor] = attention
        return attention
    return _numpy.attention if isinstance(query, np.ndarray) else _numpy.attention_through_dlpack


def _rank_of(query: Any) -> int:
    dimensions = getattr(query, "ndim", 0)
    if not 4 <= dimensions <= 6:
        raise ValueError(f"query has {dimensions} dimensions; allowed: 4 to 6, [batch, *layout, heads, dim]")
    return dimensions - 3


na1d = _function(
    "na1d",
    1,
    """Neighborhood attention on a sequence of tokens: `neighborhood_attention_generic` with one axis, X.

    query is [batch, X, heads, dim], key [batch, X, heads_kv, dim], value [batch, X, heads_kv, dim_v].
    """,
)
na2d = _function(
    "na2d",
    2,
    """Neighborhood attention on a picture: `neighborhood_attention_generic` with two axes, X and Y.

    query is [batch, X, Y, heads, dim], key [batch, X, Y, heads_kv, dim], value [batch, X, Y, heads_kv, dim_v].
    """,
)
na3d = _function(
    "na3d",
    3,
    """Neighborhood attention on a volume or a video: `neighborhood_attention_generic` with three axes, X, Y and Z.

    query is [batch, X, Y, Z, heads, dim], key [batch, X, Y, Z, heads_kv, dim], value [batch, X, Y, Z, heads_kv, dim_v].
    """,
)
neighborhood_attention_generic = _function(
    "neighborhood_attention_generic",
    None,
    """Softmax attention in which every token of a grid attends to its nearest neighbors, on 1 to 3 axes.

    Along each axis of extent L, independently: dilation d splits the axis into d interleaved groups; inside its group a
    token attends to the `kernel_size` tokens nearest to it, pushed inward at the borders; each run of `stride` tokens
    shares the window of its leader; a causal axis keeps only the tokens at or before the query. A key is attended when
    every axis agrees; additional tokens are attended by every query. Hassani, Hwu, Shi 2024, "Faster Neighborhood
    Attention", section 2 (arXiv 2403.04690), and docs/semantics.md.

    PyTorch tensors give PyTorch tensors, with gradients of output and logsumexp (first order), under torch.compile,
    torch.export and autocast too; under torch.use_deterministic_algorithms with the same bits in every run. NumPy
    arrays give NumPy arrays; arrays of other libraries on the CPU that support DLPack and the array API give arrays of
    their library. No input is copied, whatever its strides, as long as its last dimension is contiguous: slices of one
    packed projection, transposed and expanded tensors are read in place.

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
        tiling, backward_tiling: tile shapes to force on the kernels of the two passes; None leaves them to the planner.
        **tuning: NATTEN's tuning keywords, ignored with a warning.

    Returns:
        output [batch, *layout, heads, dim_v], contiguous, in the dtype of query; with return_lse a pair of it and
        logsumexp [batch, *layout, heads], natural logarithm, float32 (float64 for float64 inputs).

    Raises:
        ValueError: an argument is outside its allowed range, or a shape, dtype, device or stride does not fit.
        TypeError: an argument is of the wrong type.
        NotImplementedError: no kernel of this build can do it on this device; torch.vmap; second derivatives.
    """,
)
