"""What is accepted, what is refused and in which words."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import vicinal
from torch.testing import assert_close
from vicinal import _parameters


def tokens(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


X = tokens(2, 5, 6, 4, 8)
N = X.numpy()


@pytest.mark.parametrize(
    ("one", "each"),
    [
        ({"kernel_size": 3}, {"kernel_size": (3, 3)}),
        ({"kernel_size": np.int64(3)}, {"kernel_size": [3, np.int32(3)]}),
        ({"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "stride": [2, 2]}),
        ({"kernel_size": 2, "dilation": 2}, {"kernel_size": 2, "dilation": torch.Size([2, 2])}),
        ({"kernel_size": 3, "is_causal": True}, {"kernel_size": 3, "is_causal": (True, np.True_)}),
        ({"kernel_size": 3, "scale": 2}, {"kernel_size": 3, "scale": np.float32(2)}),
        ({"kernel_size": 3}, {"kernel_size": 3, "scale": 8**-0.5}),
    ],
)
def test_scalars_count_for_every_axis(one: dict, each: dict) -> None:
    assert_close(vicinal.na2d(X, X, X, **one), vicinal.na2d(X, X, X, **each), rtol=0, atol=0)


REFUSED = [
    ({"kernel_size": 0}, ValueError, "kernel_size[0] = 0; allowed: at least 1"),
    (
        {"kernel_size": (3, 7)},
        ValueError,
        "kernel_size[1] = 7, but layout[1] = 6; allowed: kernel_size * dilation <= ext",
    ),
    ({"dilation": (2, 1)}, ValueError, "kernel_size[0] = 3 with dilation[0] = 2 covers 6 tokens, but layout[0] = 5"),
    ({"dilation": 0}, ValueError, "dilation[0] = 0; allowed: at least 1"),
    ({"stride": (1, 4)}, ValueError, "stride[1] = 4; allowed: 1 to kernel_size[1] = 3"),
    ({"stride": 0}, ValueError, "stride[0] = 0; allowed: 1 to kernel_size[0] = 3"),
    ({"scale": float("nan")}, ValueError, "scale = nan; allowed: a finite number"),
    ({"backend": "quick"}, ValueError, 'backend = "quick" names no kernel for forward; allowed: '),
    (
        {"kernel_size": (3, 3, 3)},
        ValueError,
        "kernel_size = (3, 3, 3); allowed: an integer or 2 integers, one per axis",
    ),
    ({"stride": [1]}, ValueError, "stride = [1]; allowed: an integer or 2 integers, one per axis"),
    ({"is_causal": (True,)}, ValueError, "is_causal = (True,); allowed: a bool or 2 bools, one per axis"),
    ({"kernel_size": 3.0}, TypeError, "kernel_size = 3.0; allowed: an integer or 2 integers, one per axis"),
    ({"kernel_size": "3"}, TypeError, "kernel_size = '3'; allowed: an integer or 2 integers, one per axis"),
    ({"dilation": (1, True)}, TypeError, "dilation = (1, True); allowed: an integer or 2 integers, one per axis"),
    ({"is_causal": 1}, TypeError, "is_causal = 1; allowed: a bool or 2 bools, one per axis"),
    ({"scale": "1"}, TypeError, "scale = '1'; allowed: a number or None"),
    ({"backend": 1}, TypeError, "backend = 1; allowed: a name or None"),
    ({"window": 3}, TypeError, "neighborhood attention has no argument 'window'"),
    (
        {"key": X[:, 1:]},
        ValueError,
        "key has shape [2, 4, 6, 4, 8]; allowed: [2, 5, 6, 4, 8], which is [batch, *layout",
    ),
    (
        {"value": X[:1]},
        ValueError,
        "value has shape [1, 5, 6, 4, 8]; allowed: [2, 5, 6, 4, 8], which is [batch, *layou",
    ),
    ({"key": X[..., :3, :]}, ValueError, "heads = 4 with heads_kv = 3; allowed: heads a multiple of heads_kv"),
    ({"key": X[..., :6]}, ValueError, "key has shape [2, 5, 6, 4, 6]; allowed: [2, 5, 6, 4, 8]"),
    ({"query": X[:, :0]}, ValueError, "layout[0] = 0; allowed: at least 1"),
    ({"query": X[..., :0]}, ValueError, "dim = 0; allowed: at least 1"),
    ({"query": X[0]}, ValueError, "query has 4 dimensions; allowed: 5, [batch, X, Y, heads, dim]"),
    ({"value": X[None]}, ValueError, "value has 6 dimensions; allowed: 5, [batch, X, Y, heads, dim]"),
    (
        {"query": X.transpose(-1, -2)},
        ValueError,
        "query has stride 8 along its last dimension; allowed: 1 (contiguous)",
    ),
    ({"value": X.double()}, ValueError, "value has dtype fp64; allowed: fp32 in this fp32 problem"),
    (
        {"additional_keys": X[:, 0]},
        ValueError,
        "additional_values is None, but additional_keys is given; allowed: both",
    ),
    (
        {"additional_values": X[:, 0]},
        ValueError,
        "additional_keys is None, but additional_values is given; allowed: bo",
    ),
    (
        {"additional_keys": X[:, 0], "additional_values": X[:, 0, 1:]},
        ValueError,
        "additional_values has shape [2, 5, 4, 8]; allowed: [2, 6, 4, 8], which is [batch, additional_tokens, heads",
    ),
    (
        {"additional_keys": X[:, 0, :0], "additional_values": X[:, 0, :0]},
        ValueError,
        "additional_keys has 0 tokens; allowed: at least 1, or None",
    ),
    (
        {"additional_keys": X, "additional_values": X},
        ValueError,
        "additional_keys has 5 dimensions; allowed: 4, [batch, tokens, heads_kv, dim]",
    ),
]


@pytest.mark.parametrize(("changed", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_refusals(changed: dict, error: type[Exception], message: str) -> None:
    """The same words for NumPy, for PyTorch with and without gradients, and for the operator."""
    arguments = {"query": X, "key": X, "value": X, "kernel_size": 3} | changed
    as_numpy = {name: x.numpy() if isinstance(x, torch.Tensor) else x for name, x in arguments.items()}
    recorded = {
        name: x.clone(memory_format=torch.preserve_format).requires_grad_() if isinstance(x, torch.Tensor) else x
        for name, x in arguments.items()
    }
    for call in (arguments, recorded, as_numpy):
        with pytest.raises(error) as raised:
            vicinal.na2d(**call)
        assert str(raised.value).startswith(message)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.bool])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    x = X.to(dtype)
    with pytest.raises(ValueError, match=r"query has dtype (int32|complex64|bool8); allowed: fp64, fp32, fp16, bf16"):
        vicinal.na2d(x, x, x, 3)


def test_numpy_dtypes_are_refused() -> None:
    for dtype in (np.int32, ">f4"):
        x = N.astype(dtype)
        with pytest.raises(ValueError, match=r"query has dtype .*; allowed: float64, float32, float16, bfloat16"):
            vicinal.na2d(x, x, x, 3)


def test_numpy_strides_of_part_elements_are_refused() -> None:
    records = np.zeros((1, 5, 1), np.dtype([("flag", "u1"), ("token", "f4", (2,))]))
    with pytest.raises(ValueError, match=r"query has strides of .* bytes; allowed: multiples of its element size, 4"):
        vicinal.na1d(*[records["token"]] * 3, 3)


def test_mixed_and_foreign_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"key is of type ndarray; allowed: torch.Tensor, as query is one"):
        vicinal.na2d(X, N, X, 3)
    with pytest.raises(TypeError, match=r"key is of type NoneType; allowed: torch.Tensor, as query is one"):
        vicinal.na2d(X, None, X, 3)
    with pytest.raises(TypeError, match=r"value is of type Tensor; allowed: numpy.ndarray, as the other arguments"):
        vicinal.na2d(N, N, X, 3)
    with pytest.raises(
        TypeError, match=r"query is of type list; allowed: a torch.Tensor, a numpy.ndarray or an array "
    ):
        vicinal.na2d([1.0], N, N, 3)
    with pytest.raises(ValueError, match="query has 3 dimensions; allowed: 4 to 6"):
        vicinal.neighborhood_attention_generic(X[0, 0], X, X, 3)


def test_tensors_without_memory_are_refused() -> None:
    sparse = X.to_sparse()
    with pytest.raises(NotImplementedError, match=r"vicinal::attention.*SparseCPU"):
        vicinal.na2d(sparse, sparse, sparse, 3)


@pytest.fixture
def nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parameters, "_warned", set())


TUNING = {
    "attention_kwargs": {},
    "backward_kv_splits": (1, 1),
    "backward_kv_tile_shape": (8, 8),
    "backward_q_tile_shape": (8, 8),
    "backward_use_pt_reduction": False,
    "kernel_schedule": None,
    "kv_tile_shape": (8, 8),
    "q_tile_shape": (8, 8),
    "run_persistent_kernel": True,
    "torch_compile": False,
}


@pytest.mark.usefixtures("nothing_warned")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [*TUNING.items(), *(("backend", name) for name in ("cutlass-fna", "hopper-fna", "blackwell-fna", "flex-fna"))],
)
def test_natten_keywords_are_ignored_with_one_warning(keyword: str, value: object) -> None:
    expected = vicinal.na2d(X, X, X, 3)
    with pytest.warns(UserWarning, match=f"{keyword}.* is accepted for NATTEN's sake and ignored") as warned:
        results = [vicinal.na2d(X, X, X, 3, **{keyword: value}) for _ in range(2)]
    assert len(warned) == 1
    assert warned[0].filename == __file__
    for result in results:
        assert_close(result, expected, rtol=0, atol=0)


@pytest.mark.usefixtures("nothing_warned")
def test_every_natten_keyword_warns_for_itself() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        vicinal.na2d(X, X, X, 3, backend="cutlass-fna", **TUNING)
    assert len(warned) == len(TUNING) + 1
