"""NumPy arrays, and arrays of other libraries that NumPy can read in place through DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from vicinal import _ext
from vicinal._parameters import Parameters

# By name, so that the bfloat16 of ml_dtypes is known without importing it.
DTYPE_NAMES = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}

_CPU = 1  # DLPack's kDLCPU


def attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    additional_keys: np.ndarray | None,
    additional_values: np.ndarray | None,
    parameters: Parameters,
    return_lse: bool,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """What the functions of vicinal.functional do for NumPy arrays."""
    inputs = (
        _described("query", query),
        _described("key", key),
        _described("value", value),
        None if additional_keys is None else _described("additional_keys", additional_keys),
        None if additional_values is None else _described("additional_values", additional_values),
    )
    output = np.empty(query.shape[:-1] + value.shape[-1:], query.dtype)
    logsumexp = np.empty(query.shape[:-1], np.float64 if query.dtype == np.float64 else np.float32)
    _ext.forward(parameters, *inputs, _described("output", output), _described("logsumexp", logsumexp), where=0)
    return (output, logsumexp) if return_lse else output


def attention_through_dlpack(
    query: Any,
    key: Any,
    value: Any,
    additional_keys: Any,
    additional_values: Any,
    parameters: Parameters,
    return_lse: bool,
) -> Any:
    """The same for arrays of another library; the results are arrays of that library, as the array API asks."""
    read = [
        None if array is None else _through_dlpack(name, array)
        for name, array in (
            ("query", query),
            ("key", key),
            ("value", value),
            ("additional_keys", additional_keys),
            ("additional_values", additional_values),
        )
    ]
    namespace = query.__array_namespace__()
    output, logsumexp = attention(*read, parameters, return_lse=True)
    output = namespace.from_dlpack(output)
    return (output, namespace.from_dlpack(logsumexp)) if return_lse else output


def _described(name: str, array: Any) -> _ext.Array:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is of type {type(array).__name__}; allowed: numpy.ndarray, as the other arguments")
    dtype = DTYPE_NAMES.get(array.dtype.name)
    if dtype is None or not array.dtype.isnative:
        raise ValueError(f"{name} has dtype {array.dtype}; allowed: float64, float32, float16, bfloat16, native order")
    if any(stride % array.itemsize for stride in array.strides):
        raise ValueError(
            f"{name} has strides of {array.strides} bytes; allowed: multiples of its element size, {array.itemsize}"
        )
    strides = [stride // array.itemsize for stride in array.strides]
    return _ext.Array(array.__array_interface__["data"][0], array.shape, strides, dtype)


def _through_dlpack(name: str, array: Any) -> np.ndarray:
    if not (hasattr(array, "__dlpack__") and hasattr(array, "__array_namespace__")):
        raise TypeError(
            f"{name} is of type {type(array).__name__}; allowed: a torch.Tensor, a numpy.ndarray or an array with "
            "__dlpack__ and __array_namespace__"
        )
    device, _ = array.__dlpack_device__()
    if device != _CPU:
        raise NotImplementedError(f"{name} is on a device of DLPack type {int(device)}; supported: cpu")
    return np.from_dlpack(array)
