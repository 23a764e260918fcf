"""Times on a GPU: by events on the stream, of calls that take turns so that none finds its inputs in a cache."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.problem import Problem, Tensors, random_tensors

LEAST_REPETITIONS, MOST_REPETITIONS = 3, 100
PAUSE_CYCLES = 2_000_000  # about a millisecond
# A card that has rested is faster at first, by a tenth, than one that works.
WARM_UP_SECONDS, MOST_WARM_UPS = 0.2, 1000
CACHES = 3  # the inputs that take turns fill the second-level cache so many times


@dataclass
class Timing:
    median_seconds: float
    fastest_seconds: float
    repetitions: int


def measure(calls: Sequence[Callable[[], object]], seconds: float, device: str) -> Timing:
    """The calls in turn, after each was made once, for about so many seconds. On a GPU the card is warm by then."""
    for call in calls:
        call()
    once = _samples(calls[:1], 1, device)[0]
    if device != "cpu":
        _samples(calls, min(int(WARM_UP_SECONDS / once), MOST_WARM_UPS), device)
    wanted = min(max(int(seconds / once), LEAST_REPETITIONS), MOST_REPETITIONS)
    samples = _samples(calls, wanted, device)
    return Timing(statistics.median(samples), min(samples), len(samples))


def _samples(calls: Sequence[Callable[[], object]], count: int, device: str) -> list[float]:
    if device == "cpu":
        return [_seconds_on_cpu(calls[i % len(calls)]) for i in range(count)]
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    torch.cuda.synchronize()
    torch.cuda._sleep(PAUSE_CYCLES)  # meanwhile calls are queued, so that the GPU never waits for the next one
    for i, (start, end) in enumerate(events):
        start.record()
        calls[i % len(calls)]()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in events]


def _seconds_on_cpu(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cold_tensors(problem: Problem, device: str) -> list[Tensors]:
    """Random inputs, as many as it takes to find none of them in the cache when its turn comes again."""
    first = random_tensors(problem, 0, device)
    cache = 0 if device == "cpu" else torch.cuda.get_device_properties(device).L2_cache_size
    read = sum(x.nbytes for x in first.inputs)
    return [first, *(random_tensors(problem, seed, device) for seed in range(1, -(-CACHES * cache // read)))]


def describe(device: str) -> dict[str, str]:
    """The card and what drives it."""
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda or ""}
    if device == "cpu":
        return {"card": "CPU", "driver": "", "cudnn": "", **versions}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    cudnn = str(torch.backends.cudnn.version())
    return {"card": torch.cuda.get_device_name(device), "driver": driver, "cudnn": cudnn, **versions}
