"""Times of several contenders taken side by side, and the memory that one of them takes."""

from __future__ import annotations

import ctypes
import gc
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass
class Contender:
    """One way to compute a result. `run` does it once and returns the seconds that count."""

    name: str
    run: Callable[[], float]


def timed(function: Callable[[], object]) -> Callable[[], float]:
    """A `Contender.run` that counts the whole call."""

    def run() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return run


@dataclass
class Samples:
    """Seconds of each contender, round by round: entry i of every list was taken within the same few seconds."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """How often `other` fits into `name`: the median over rounds, which a machine that slows down leaves alone."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)


def interleave(contenders: list[Contender], budget_seconds: float, least_rounds: int, most_rounds: int) -> Samples:
    """Runs all contenders in turn, round after round, until the budget is spent. A first round of under four seconds
    is warm-up and does not count."""
    samples = Samples({contender.name: [] for contender in contenders})

    def one_round() -> float:
        start = time.perf_counter()
        for contender in contenders:
            samples.seconds[contender.name].append(contender.run())
        return time.perf_counter() - start

    spent = one_round()
    if spent < 4:
        for seconds in samples.seconds.values():
            seconds.clear()
        spent = 0.0
    rounds = len(samples.seconds[contenders[0].name])
    while rounds < least_rounds or (rounds < most_rounds and spent < budget_seconds):
        spent += one_round()
        rounds += 1
    return samples


def resident_kib(key: str) -> int:
    """VmRSS (now) or VmHWM (the peak) of this process."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+)", status)[1])


def peak_memory_bytes(function: Callable[[], object]) -> int:
    """How far one call raises the resident memory of this process above where it was, its results included.

    The kernel keeps the peak (VmHWM), so nothing is sampled; memory that was freed before is given back first, so that
    the call cannot hide in it.
    """
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = resident_kib("VmRSS")
    result = function()
    peak = resident_kib("VmHWM")
    del result
    return 1024 * (peak - before)


def copy_bytes_per_second() -> float:
    """The machine's copy bandwidth on all of PyTorch's threads, reads and writes both counted."""
    source = torch.ones(1 << 26)
    target = torch.empty_like(source)
    seconds = interleave([Contender("copy", timed(lambda: target.copy_(source)))], 0.5, 5, 20).seconds["copy"]
    return 2 * source.nbytes / min(seconds)


def matmul_multiply_adds_per_second() -> float:
    """The fp32 multiply-adds that PyTorch's matrix product reaches: a practical peak."""
    side = 1536
    a, b = torch.randn(2, side, side)
    seconds = interleave([Contender("matmul", timed(lambda: a @ b))], 1.0, 5, 20).seconds["matmul"]
    return side**3 / min(seconds)
