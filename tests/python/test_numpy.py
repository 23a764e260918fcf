"""NumPy arrays and arrays that NumPy can read."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import vicinal
from dense import Problem, attention
from numpy.testing import assert_allclose

PROBLEM = Problem((6, 7), (3, 4), (1, 2), (2, 1), (False, True), batch=2, heads=4, heads_kv=2, dim=8, dim_v=5)


def arrays(dtype: type) -> list[np.ndarray]:
    return [x.numpy().astype(dtype) for x in PROBLEM.tensors()[:3]]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float64, 1e-12), (np.float32, 1e-5), (np.float16, 5e-3), (ml_dtypes.bfloat16, 4e-2)],
)
def test_dtypes(dtype: type, tolerance: float) -> None:
    output, logsumexp = vicinal.na2d(*arrays(dtype), **PROBLEM.parameters, return_lse=True)
    expected, expected_logsumexp = (x.numpy() for x in attention(PROBLEM, *PROBLEM.tensors()))
    assert output.dtype == dtype
    assert output.flags.c_contiguous
    assert logsumexp.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert_allclose(output.astype(np.float64), expected, rtol=0, atol=tolerance)
    assert_allclose(logsumexp, expected_logsumexp, rtol=0, atol=4 * tolerance)


def test_strides_are_read_in_place() -> None:
    query, key, value = arrays(np.float32)
    expected = vicinal.na2d(query, key, value, **PROBLEM.parameters)
    heads_first = np.ascontiguousarray(query.transpose(0, 3, 1, 2, 4)).transpose(0, 2, 3, 1, 4)
    reversed_key = np.ascontiguousarray(key[:, ::-1])[:, ::-1]
    packed = np.zeros((*value.shape[:-1], 3 * value.shape[-1]), np.float32)
    packed[..., 5:10] = value
    for array in (heads_first, reversed_key, packed):
        array.flags.writeable = False
    result = vicinal.na2d(heads_first, reversed_key, packed[..., 5:10], **PROBLEM.parameters)
    np.testing.assert_array_equal(result, expected)


def test_zero_strides() -> None:
    query, key, value = arrays(np.float32)
    one_row = np.broadcast_to(key[:, :1], key.shape)
    expected = vicinal.na2d(query, np.ascontiguousarray(one_row), value, **PROBLEM.parameters)
    np.testing.assert_array_equal(vicinal.na2d(query, one_row, value, **PROBLEM.parameters), expected)


def test_empty_batch() -> None:
    query, key, value = (x[:0] for x in arrays(np.float32))
    output, logsumexp = vicinal.na2d(query, key, value, 3, return_lse=True)
    assert output.shape == (0, 6, 7, 4, 5)
    assert logsumexp.shape == (0, 6, 7, 4)


class ForeignArray:
    """An array of another library: DLPack and the array API's namespace, and nothing of NumPy's."""

    def __init__(self, data: np.ndarray, device: int = 1) -> None:
        self.data = data
        self.device = device

    def __dlpack__(self, **keywords: object) -> object:
        return self.data.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __array_namespace__(self) -> type[ForeignArray]:
        return type(self)

    @classmethod
    def from_dlpack(cls, array: np.ndarray) -> ForeignArray:
        return cls(np.from_dlpack(array))


def test_arrays_of_another_library() -> None:
    query, key, value = arrays(np.float32)
    foreign = [ForeignArray(x) for x in (query, key, value)]
    output, logsumexp = vicinal.na2d(*foreign, **PROBLEM.parameters, return_lse=True)
    expected, expected_logsumexp = vicinal.na2d(query, key, value, **PROBLEM.parameters, return_lse=True)
    assert type(output) is type(logsumexp) is ForeignArray
    np.testing.assert_array_equal(output.data, expected)
    np.testing.assert_array_equal(logsumexp.data, expected_logsumexp)
    assert type(vicinal.na2d(*foreign, **PROBLEM.parameters)) is ForeignArray


def test_arrays_of_another_library_on_a_gpu_are_refused() -> None:
    query, key, value = (ForeignArray(x, device=2) for x in arrays(np.float32))
    with pytest.raises(NotImplementedError, match="query is on a device of DLPack type 2; supported: cpu"):
        vicinal.na2d(query, key, value, 3)


def test_pytorch_is_not_imported() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"  # import torch would fail
        "import numpy as np, vicinal\n"
        "x = np.ones((1, 5, 1, 2), np.float32)\n"
        "assert (vicinal.na1d(x, x, x, 3) == 1).all()\n"
        "vicinal.merge_attentions([x], [x[..., 0]])\n"
        "print(vicinal.plan(5, 3))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
