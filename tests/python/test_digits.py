"""The classifier of examples/digits.py: it learns, and in low precision as it does in float32.

Its loss is compared with that of float32 on the CPU from the same parameters and batches, by means over ten steps. The
yardstick is the noise of the seed: how far the losses of three seeds are apart on the CPU, on the mean over the curve.
To stay within it says little: a run without any gradient of attention does, by a factor of four, and one without that
of the keys by 25. Rounding to bfloat16 on the CPU moves the curve by a thousandth of it. A fiftieth is allowed.
"""

from __future__ import annotations

import re
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import vicinal

pytest.importorskip("sklearn", reason="scikit-learn, whose pictures these are, is not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import digits

STEPS = 40
SEEDS = range(3)
MOST_OF_NOISE = 1 / 50

on_hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9,
    reason="this machine has no Hopper GPU, and the fused kernels on CUDA are for Hopper",
)
low_precision = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@pytest.fixture(autouse=True)
def _one_thread():
    """The layers are so small that threads on a busy machine wait for each other for most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def on_cpu(seed: int = 0, dtype: torch.dtype = torch.float32) -> digits.Training:
    return digits.train("cpu", dtype, STEPS, seed)


def curve(training: digits.Training) -> torch.Tensor:
    """[STEPS / 10]"""
    return torch.tensor(training.losses).unflatten(0, (-1, 10)).mean(1)


def distance(training: digits.Training) -> float:
    """From the curve of float32 on the CPU with the same seed, as a part of the noise of the seed."""
    curves = torch.stack([curve(on_cpu(seed)) for seed in SEEDS])
    noise = (curves.amax(0) - curves.amin(0)).mean()
    return float((curve(training) - curves[0]).abs().mean() / noise)


def train_with(attend, device: str, dtype: torch.dtype) -> digits.Training:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vicinal.NeighborhoodAttention2D, "_attend", staticmethod(attend))
        return digits.train(device, dtype, STEPS)


def test_it_learns() -> None:
    training = on_cpu()
    assert curve(training)[0] > 1.5  # ten digits, all as likely: 2.3
    assert curve(training)[-1] < 0.8
    assert training.accuracy > 0.8


def test_the_program_prints_losses_and_accuracy(capsys: pytest.CaptureFixture) -> None:
    digits.main(["--steps", "3", "--seed", "1"])
    printed = capsys.readouterr().out
    assert re.search(r"^  1 to   3 +2\.\d{3}$", printed, re.MULTILINE)
    assert re.search(r"^\d+\.\d% of 297 other pictures recognized", printed, re.MULTILINE)
    with pytest.raises(SystemExit, match="2"):
        digits.main(["--steps", "0"])
    assert "--steps is 0; allowed: from 1" in capsys.readouterr().err


def test_bfloat16_on_a_cpu_follows_float32() -> None:
    assert distance(on_cpu(dtype=torch.bfloat16)) < MOST_OF_NOISE


@pytest.mark.parametrize("lost", [1, 2], ids=["key", "value"])
def test_a_lost_gradient_is_noticed(lost: int) -> None:
    def attend(*arguments):
        return vicinal.na2d(*(x.detach() if i == lost else x for i, x in enumerate(arguments)))

    assert distance(train_with(attend, "cpu", torch.float32)) > 1.5 * MOST_OF_NOISE


@on_hopper
@low_precision
def test_hopper_follows_the_cpu(dtype: torch.dtype) -> None:
    fused = partial(vicinal.na2d, backend="fused")  # which refuses what it cannot do, in both passes
    training = train_with(fused, "cuda", dtype)
    assert distance(training) < MOST_OF_NOISE
    assert training.accuracy > 0.8


@on_hopper
@low_precision
@pytest.mark.parametrize(
    ("extent", "heads", "window", "dilation"), [(16, 1, 5, 1), (16, 1, 5, 3), (8, 2, 3, 1), (8, 2, 3, 2)]
)
def test_the_planner_takes_the_fused_kernels(
    extent: int, heads: int, window: int, dilation: int, dtype: torch.dtype
) -> None:
    packed = torch.randn(50, extent, extent, 3, heads, digits.HEAD_DIM, dtype=dtype, device="cuda", requires_grad=True)
    grad = torch.randn(50, extent, extent, heads, digits.HEAD_DIM, dtype=dtype, device="cuda")

    def results(backend: str | None) -> list[torch.Tensor]:
        """Output, and gradients of query, key and value, with kernels that give the same bits in every run."""
        inputs = packed.unbind(3)
        output = vicinal.na2d(*inputs, window, dilation=dilation, backend=backend)
        return [output, *torch.autograd.grad(output, inputs, grad)]

    torch.use_deterministic_algorithms(True)
    try:
        planned_fused_naive = [results(backend) for backend in (None, "fused", "naive")]
    finally:
        torch.use_deterministic_algorithms(False)
    for planned, fused, naive in zip(*planned_fused_naive, strict=True):
        assert torch.equal(planned, fused)
        assert not torch.equal(planned, naive)  # which rounds differently, so the bits tell them apart
