"""`vicinal run`, and the .npy files that it reads and writes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from outcome import Program, refused, succeeded

RNG = np.random.default_rng(0)


def save(folder: Path, **arrays: np.ndarray) -> list[str | Path]:
    """Writes every array and returns the options that name them."""
    options: list[str | Path] = []
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        np.save(path, array)
        options += [f"--{name.replace('_', '-')}", path]
    return options


def outputs(folder: Path, *names: str) -> list[str | Path]:
    return [part for name in names for part in (f"--{name}", folder / f"{name}.npy")]


def random(*shape: int, dtype: str = "float64") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def inputs(layout: tuple[int, ...], dtype: str = "float64") -> dict[str, np.ndarray]:
    return {
        "query": random(2, *layout, 4, 8, dtype=dtype),
        "key": random(2, *layout, 2, 8, dtype=dtype),
        "value": random(2, *layout, 2, 6, dtype=dtype),
    }


@pytest.mark.parametrize("layout", [(11,), (6, 7), (3, 4, 5)])
def test_forward_and_backward(vicinal: Program, reference: ModuleType, tmp_path: Path, layout: tuple[int, ...]) -> None:
    rank = len(layout)
    arrays = inputs(layout)
    grad = random(2, *layout, 4, 6)
    written = ("output", "logsumexp", "grad-query", "grad-key", "grad-value")
    succeeded(
        vicinal(
            "run --window 3 --stride 2 --causal",
            ",".join("1" + "0" * (rank - 1)),
            *save(tmp_path, **arrays, grad_output=grad),
            *outputs(tmp_path, *written),
        )
    )
    q, k, v = arrays.values()
    how = [(3,) * rank, (1,) * rank, (2,) * rank, (1,) + (0,) * (rank - 1)]
    expected = [*reference.forward(q, k, v, *how), *reference.backward(q, k, v, grad, *how)]
    for name, value in zip(written, expected, strict=True):
        actual = np.load(tmp_path / f"{name}.npy")
        assert actual.dtype == np.float64
        np.testing.assert_allclose(actual, value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_extra_tokens(vicinal: Program, reference: ModuleType, tmp_path: Path) -> None:
    arrays = inputs((5, 6))
    extra = {"extra_key": random(2, 3, 2, 8), "extra_value": random(2, 3, 2, 6)}
    grad = random(2, 5, 6, 4, 6)
    written = ("output", "grad-query", "grad-key", "grad-value", "grad-extra-key", "grad-extra-value")
    options = [*save(tmp_path, **arrays, **extra, grad_output=grad), *outputs(tmp_path, *written)]
    succeeded(vicinal("run --window 3 --scale 0.7", *options))
    how = [*arrays.values(), grad, (3, 3), (1, 1), (1, 1), (0, 0), 0.7, *extra.values()]
    for name, value in zip(written[1:], reference.backward(*how), strict=True):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_gradient_of_logsumexp(vicinal: Program, reference: ModuleType, tmp_path: Path) -> None:
    arrays = inputs((5, 4))
    grads = {"grad_output": np.zeros((2, 5, 4, 4, 6)), "grad_logsumexp": random(2, 5, 4, 4)}
    options = [*save(tmp_path, **arrays, **grads), *outputs(tmp_path, "output", "grad-query")]
    succeeded(vicinal("run --window 3", *options))

    def weighted_logsumexp(query: np.ndarray) -> float:
        how = (query, arrays["key"], arrays["value"], (3, 3), (1, 1), (1, 1), (0, 0))
        return float((reference.forward(*how)[1] * grads["grad_logsumexp"]).sum())

    query, step = arrays["query"], 1e-5 * random(*arrays["query"].shape)
    difference = weighted_logsumexp(query + step) - weighted_logsumexp(query - step)
    assert 2 * (np.load(tmp_path / "grad-query.npy") * step).sum() == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "option", "written", "tolerance"),
    [
        ("float32", "", "float32", 1e-5),
        ("float16", "", "float16", 5e-3),
        ("float32", "--dtype fp16", "float16", 5e-3),
        ("float32", "--dtype bf16", "float32", 3e-2),
        ("float32", "--dtype fp64", "float64", 1e-9),
    ],
)
def test_dtypes(
    vicinal: Program, reference: ModuleType, tmp_path: Path, dtype: str, option: str, written: str, tolerance: float
) -> None:
    arrays = inputs((6, 6), dtype)
    result = vicinal("run --window 3", option, *save(tmp_path, **arrays), *outputs(tmp_path, "output"))
    assert "wrote" in succeeded(result)
    output = np.load(tmp_path / "output.npy")
    expected, _ = reference.forward(*(x.astype("float64") for x in arrays.values()), (3, 3), (1, 1), (1, 1), (0, 0))
    assert output.dtype == np.dtype(written)
    assert np.abs(output - expected).max() < tolerance


def test_bf16_results_are_exact_bf16_values(vicinal: Program, tmp_path: Path) -> None:
    arrays = inputs((6, 6), "float32")
    succeeded(vicinal("run --window 1 --dtype bf16", *save(tmp_path, **arrays), *outputs(tmp_path, "output")))
    output = np.load(tmp_path / "output.npy")
    assert not np.any(output.view(np.uint32) & 0xFFFF)
    np.testing.assert_allclose(output, arrays["value"].repeat(2, axis=-2), rtol=2**-8)


# With a window of one token the output is the value: what was read is written again.


def round_trip(vicinal: Program, folder: Path, value: np.ndarray, save_value) -> np.ndarray:
    ones = np.ones((*value.shape[:-1], 1), value.dtype)
    options = save(folder, query=ones, key=ones)
    with open(folder / "value.npy", "wb") as file:
        save_value(file, value)
    result = vicinal("run --window 1", *options, "--value", folder / "value.npy", *outputs(folder, "output"))
    succeeded(result)
    return np.load(folder / "output.npy")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_npy_versions(vicinal: Program, tmp_path: Path, version: tuple[int, int], dtype: str) -> None:
    value = random(1, 3, 4, 2, 5, dtype=dtype)
    output = round_trip(vicinal, tmp_path, value, lambda f, x: np.lib.format.write_array(f, x, version=version))
    assert output.dtype == value.dtype
    np.testing.assert_array_equal(output, value)


@pytest.mark.parametrize("shape", [(1, 7, 1, 1), (2, 3, 2, 4), (2, 3, 4, 2, 5), (1, 2, 3, 4, 2, 3)])
def test_fortran_order(vicinal: Program, tmp_path: Path, shape: tuple[int, ...]) -> None:
    value = np.asfortranarray(random(*shape))
    np.testing.assert_array_equal(round_trip(vicinal, tmp_path, value, np.save), value)


def test_an_empty_batch(vicinal: Program, tmp_path: Path) -> None:
    assert round_trip(vicinal, tmp_path, random(0, 3, 4, 2, 5), np.save).shape == (0, 3, 4, 2, 5)


def test_large_headers_and_data_that_follows(vicinal: Program, tmp_path: Path) -> None:
    def padded(file, value: np.ndarray) -> None:
        np.save(file, value)
        file.write(b"more")

    value = random(1, 3, 4, 2, 5)
    np.testing.assert_array_equal(round_trip(vicinal, tmp_path, value, padded), value)


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a .npy file: it ends too early"),
        (b"PK\x03\x04 something else", "is not a .npy file"),
        (b"\x93NUMPY\x04\x00\x00\x00\x00\x00", "version 4; allowed: 1, 2 or 3"),
        (npy(b"{'descr': '<f4', 'fortran_order'")[:-9], "ends too early"),
        (npy(b"{}"), "its .npy header lacks descr, fortran_order or shape"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, x)}"), "no readable shape"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"), "holds 0 bytes of data"),
    ],
)
def test_broken_files(vicinal: Program, tmp_path: Path, content: bytes, message: str) -> None:
    options = save(tmp_path, key=random(1, 4, 1, 2), value=random(1, 4, 1, 2))
    query = tmp_path / "query.npy"
    query.write_bytes(content)
    error = refused(vicinal("run --window 1 --query", query, *options, *outputs(tmp_path, "output")))
    assert str(query) in error
    assert message in error
    assert not (tmp_path / "output.npy").exists()


@pytest.mark.parametrize("dtype", [">f4", "int32", "complex64"])
def test_other_dtypes_are_refused(vicinal: Program, tmp_path: Path, dtype: str) -> None:
    options = save(tmp_path, query=np.ones((1, 4, 1, 2), dtype), key=random(1, 4, 1, 2), value=random(1, 4, 1, 2))
    error = refused(vicinal("run --window 1", *options, *outputs(tmp_path, "output")))
    assert "allowed: little-endian float64, float32 or float16 (<f8, <f4, <f2)" in error


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"query": (4, 1, 2)}, "query has shape [4, 1, 2]; allowed: [batch, *layout, heads, dim] with 1 to 3 axes"),
        ({"key": (1, 2, 2, 1, 2)}, "key has shape [1, 2, 2, 1, 2]; allowed: as many dimensions as query"),
        ({"key": (1, 5, 1, 2)}, "key"),
        ({"value": (2, 4, 1, 2)}, "value"),
        ({"query": (1, 1, 1, 1, 1, 1, 1)}, "has 7 dimensions; allowed: at most 6"),
        ({"query": (1, 4, 3, 2), "key": (1, 4, 2, 2)}, "heads = 3 with heads_kv = 2"),
    ],
)
def test_shapes_that_do_not_fit(vicinal: Program, tmp_path: Path, shapes: dict, message: str) -> None:
    arrays = {name: random(*shapes.get(name, (1, 4, 1, 2))) for name in ("query", "key", "value")}
    assert message in refused(vicinal("run --window 1", *save(tmp_path, **arrays), *outputs(tmp_path, "output")))
    assert not (tmp_path / "output.npy").exists()


def test_dtypes_that_do_not_fit(vicinal: Program, tmp_path: Path) -> None:
    arrays = {"query": random(1, 4, 1, 2), "key": random(1, 4, 1, 2, dtype="float32"), "value": random(1, 4, 1, 2)}
    assert "key" in refused(vicinal("run --window 1", *save(tmp_path, **arrays), *outputs(tmp_path, "output")))


def test_options_that_need_each_other(vicinal: Program, tmp_path: Path) -> None:
    options = [*save(tmp_path, **inputs((4,))), *outputs(tmp_path, "output")]
    assert "--grad-output" in refused(vicinal("run --window 1", *options, *outputs(tmp_path, "grad-query")))
    assert "--extra-value" in refused(
        vicinal("run --window 1", *options, *save(tmp_path, extra_key=random(2, 3, 2, 8)))
    )
    assert "does not exist" in refused(vicinal("run --window 1 --value nowhere.npy", *options[:4]))
    assert "--output is required" in refused(vicinal("run --window 1", *options[:6]))


def test_a_file_that_cannot_be_written(vicinal: Program, tmp_path: Path) -> None:
    options = save(tmp_path, **inputs((4,)))
    result = vicinal("run --window 1", *options, "--output", tmp_path / "nowhere" / "output.npy")
    assert result.returncode == 3
    assert "output.npy: cannot be written: No such file or directory" in result.stderr
