"""The unfused operators on NumPy arrays."""

from __future__ import annotations

import numpy as np

from vicinal import _ext
from vicinal._numpy import _described
from vicinal._parameters import Parameters, window_size


def qk(
    query: np.ndarray,
    key: np.ndarray,
    rpb: np.ndarray | None,
    additional_keys: np.ndarray | None,
    parameters: Parameters,
) -> np.ndarray:
    """What the qk functions of vicinal.unfused do for NumPy arrays."""
    inputs = (
        _described("query", query),
        _described("key", key),
        None if additional_keys is None else _described("additional_keys", additional_keys),
        None if rpb is None else _described("rpb", rpb),
    )
    slots = window_size(parameters[0]) + _tokens(additional_keys)
    attn = np.empty((*query.shape[:-1], slots), query.dtype)
    _ext.pointwise_neighborhood(parameters, *inputs, _described("attn", attn), masked_is_zero=False, where=0)
    return attn


def av(
    attn: np.ndarray,
    value: np.ndarray,
    additional_values: np.ndarray | None,
    parameters: Parameters,
) -> np.ndarray:
    """What the av functions of vicinal.unfused do for NumPy arrays."""
    inputs = (
        _described("attn", attn),
        _described("value", value),
        None if additional_values is None else _described("additional_values", additional_values),
    )
    output = np.empty(attn.shape[:-1] + value.shape[-1:], attn.dtype)
    _ext.neighborhood_neighborhood(parameters, *inputs, _described("output", output), where=0)
    return output


def _tokens(additional: np.ndarray | None) -> int:
    return additional.shape[1] if additional is not None and additional.ndim > 1 else 0
