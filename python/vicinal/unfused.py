"""Attention weights as arrays: the two halves of neighborhood attention, and relative positional bias."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from vicinal import _numpy_unfused
from vicinal._numpy import _through_dlpack
from vicinal._parameters import make_parameters

__all__ = ["na1d_av", "na1d_qk", "na2d_av", "na2d_qk", "na3d_av", "na3d_qk"]

_SCALE = 1.0  # users scale the query


def _qk_function(rank: int, documentation: str) -> Callable[..., Any]:
    def qk(
        query: Any,
        key: Any,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        is_causal: bool | Sequence[bool] = False,
        rpb: Any = None,
        additional_keys: Any = None,
        backend: str | None = None,
    ) -> Any:
        parameters = make_parameters(rank, kernel_size, stride, dilation, is_causal, _SCALE, backend)
        implementation = _implementation_for(query)
        if implementation is not None:
            return implementation.qk(query, key, rpb, additional_keys, parameters)
        arrays = {"query": query, "key": key, "rpb": rpb, "additional_keys": additional_keys}
        return _in_library_of(query, _numpy_unfused.qk, arrays, parameters)

    return _named(qk, f"na{rank}d_qk", documentation)


def _av_function(rank: int, documentation: str) -> Callable[..., Any]:
    def av(
        attn: Any,
        value: Any,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        is_causal: bool | Sequence[bool] = False,
        additional_values: Any = None,
        backend: str | None = None,
    ) -> Any:
        parameters = make_parameters(rank, kernel_size, stride, dilation, is_causal, _SCALE, backend)
        implementation = _implementation_for(attn)
        if implementation is not None:
            return implementation.av(attn, value, additional_values, parameters)
        arrays = {"attn": attn, "value": value, "additional_values": additional_values}
        return _in_library_of(attn, _numpy_unfused.av, arrays, parameters)

    return _named(av, f"na{rank}d_av", documentation)


def _named(function: Callable[..., Any], name: str, documentation: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = documentation
    return function


def _implementation_for(array: Any) -> ModuleType | None:
    torch = sys.modules.get("torch")  # who has a tensor has imported torch
    if torch is not None and isinstance(array, torch.Tensor):
        from vicinal import _torch_unfused

        return _torch_unfused
    return _numpy_unfused if isinstance(array, np.ndarray) else None


def _in_library_of(array: Any, run: Callable[..., np.ndarray], arrays: dict[str, Any], parameters: Any) -> Any:
    """Runs on arrays of another library; the result is one of that library, as the array API asks."""
    read = [None if x is None else _through_dlpack(name, x) for name, x in arrays.items()]
    return array.__array_namespace__().from_dlpack(run(*read, parameters))


_QK = """The attention weights of `na{rank}d` before softmax: dot products of every query with the keys of its window.

    `softmax(na{rank}d_qk(query * scale, key, ...))` followed by `na{rank}d_av` is `na{rank}d`, with all weights in
    memory: choose `na{rank}d` unless the weights themselves, or a bias, are needed. A query has one slot for each key
    of its window: along each axis, slot j is the key j * dilation after the first one of the window. Slots are in
    row-major order over the axes, additional keys come last. Slots without a key, which causal windows have, are -inf.

    PyTorch tensors give PyTorch tensors, with derivatives of any order, under torch.compile, torch.export and autocast
    too; in backward passes, slots without a key are ignored. NumPy arrays give NumPy arrays; arrays of other libraries
    on the CPU that support DLPack and the array API give arrays of their library.

    Args:
        query: [batch, {layout}, heads, dim] in float64, float32, float16 or bfloat16; scaled by the caller.
        key: [batch, {layout}, heads_kv, dim], heads a multiple of heads_kv; same dtype and device as query.
        kernel_size, stride, dilation, is_causal: as in `vicinal.neighborhood_attention_generic`.
        rpb: relative positional bias [heads, 2 * kernel_size - 1 per axis], same dtype and device as query; None for
            none. Along each axis, entry kernel_size - 1 + (key - query) / dilation is added to the weight of a key;
            nothing is added to those of additional keys.
        additional_keys: [batch, tokens, heads_kv, dim], seen by every query; None for none.
        backend: a name from `vicinal info`, such as "naive"; None takes the kernel with the lowest cost.

    Returns:
        [batch, {layout}, heads, prod(kernel_size) + tokens] in the dtype of query; accumulated in float32, float64 for
        float64.

    Raises:
        ValueError: an argument is outside its allowed range, or a shape, dtype, device or stride does not fit.
        TypeError: an argument is of the wrong type.
        NotImplementedError: no kernel of this build can do it on this device; torch.vmap.
    """

_AV = """The output of `na{rank}d` from its weights: the sum of the values of each query's window, weighted.

    Args:
        attn: [batch, {layout}, heads, prod(kernel_size) + tokens], slots as in `na{rank}d_qk`, after softmax and
            whatever else (dropout, say). Slots without a key are not read.
        value: [batch, {layout}, heads_kv, dim], heads a multiple of heads_kv; same dtype and device as attn.
        kernel_size, stride, dilation, is_causal: as in `vicinal.neighborhood_attention_generic`.
        additional_values: [batch, tokens, heads_kv, dim]; None for none.
        backend: as in `na{rank}d_qk`.

    Returns:
        [batch, {layout}, heads, dim] in the dtype of attn; accumulated in float32, float64 for float64.

    Raises:
        As `na{rank}d_qk`.
    """

_LAYOUTS = {1: "X", 2: "X, Y", 3: "X, Y, Z"}

na1d_qk, na2d_qk, na3d_qk = (_qk_function(rank, _QK.format(rank=rank, layout=axes)) for rank, axes in _LAYOUTS.items())
na1d_av, na2d_av, na3d_av = (_av_function(rank, _AV.format(rank=rank, layout=axes)) for rank, axes in _LAYOUTS.items())
