"""What a call costs beside its arithmetic: a tiny problem through vicinal and through scaled_dot_product_attention.

    python -m benchmarks.overhead [--device cuda] [--dtype fp16] [--json FILE] [--then ...]

Both are eager PyTorch calls on the same 16 tokens, 1 head, dim 8, window 16, so both compute the same dense attention.
They take turns, a batch of calls at a time, so that a busy machine slows both alike. It is wall time: on a GPU that of
calls which return before it is done, since a batch is short enough for its queue, and is waited for off the clock.
After --then come the options of another run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import vicinal
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu_timing import describe
from benchmarks.measure import Contender, interleave
from benchmarks.problem import DTYPES
from benchmarks.report import commit
from benchmarks.runs import runs

TOKENS, HEADS, DIM = 16, 1, 8
CALLS = {"cpu": 200, "cuda": 50}  # of a batch; a GPU's queue holds a thousand kernels
GPU_GOAL_MICROSECONDS = 15  # most above SDPA

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class Overhead:
    """Microseconds of one call, the median over batches."""

    what: str
    sdpa: float
    vicinal: float

    @property
    def above(self) -> float:
        return self.vicinal - self.sdpa


def sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(query, key, value)


def na1d(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return vicinal.na1d(query, key, value, TOKENS)


def forward(attend: Attention, inputs: list[torch.Tensor]) -> Callable[[], object]:
    return lambda: attend(*inputs)


def forward_and_backward(attend: Attention, inputs: list[torch.Tensor]) -> Callable[[], object]:
    grad = torch.randn_like(inputs[0])
    return lambda: torch.autograd.grad(attend(*inputs), inputs, grad)


def batch(call: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """A `Contender.run` of many calls; seconds of one."""
    calls = CALLS[device.type]

    def run() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        seconds = time.perf_counter() - start
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return seconds / calls

    return run


def measure_overheads(seconds: float = 1.0, device: str = "cpu", dtype: str = "fp32") -> list[Overhead]:
    """Without gradients, with them recorded, and with a backward pass; `seconds` for each."""
    overheads = []
    for what, make, with_gradients in (
        ("forward, no gradients", forward, False),
        ("forward, recorded", forward, True),
        ("forward and backward", forward_and_backward, True),
    ):
        contenders = []
        for attend, shape in ((sdpa, (1, HEADS, TOKENS, DIM)), (na1d, (1, TOKENS, HEADS, DIM))):
            inputs = [
                torch.randn(shape, device=device, dtype=DTYPES[dtype], requires_grad=with_gradients) for _ in range(3)
            ]
            contenders.append(Contender(attend.__name__, batch(make(attend, inputs), torch.device(device))))
        samples = interleave(contenders, seconds, least_rounds=5, most_rounds=100)
        overheads.append(Overhead(what, *(1e6 * samples.median(name) for name in ("sdpa", "na1d"))))
    return overheads


def parse_arguments(of_run: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line [1]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record")
    return parser.parse_args(of_run)


def run(arguments: argparse.Namespace) -> None:
    overheads = measure_overheads(arguments.seconds, arguments.device, arguments.dtype)
    print(f"{'microseconds a call, ' + arguments.dtype:<28}{'sdpa':>8}{'vicinal':>9}{'above':>8}")
    for overhead in overheads:
        goal = f"   goal: under {GPU_GOAL_MICROSECONDS}" if arguments.device.startswith("cuda") else ""
        print(f"{overhead.what:<28}{overhead.sdpa:8.1f}{overhead.vicinal:9.1f}{overhead.above:8.1f}{goal}")
    if arguments.json:
        record = {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": commit(),
            **describe(torch.device(arguments.device).type),
            "dtype": arguments.dtype,
            "overheads": [asdict(overhead) | {"above": overhead.above} for overhead in overheads],
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    for arguments in [parse_arguments(of_run) for of_run in runs(sys.argv[1:])]:
        run(arguments)


if __name__ == "__main__":
    main()
