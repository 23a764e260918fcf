"""What a call costs beside its arithmetic: a tiny problem through vicinal and through scaled_dot_product_attention.

    python -m benchmarks.overhead [--device cuda]

Both are eager PyTorch calls on the same 16 tokens, 1 head, dim 8, window 16, so both compute the same dense attention.
They take turns, a batch of calls at a time, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
import vicinal
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.measure import Contender, interleave, timed

TOKENS, HEADS, DIM = 16, 1, 8
CALLS = 200  # of a batch

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


def batch(call: Callable[[], object], device: str) -> Callable[[], object]:
    """Many calls, until the device has done them."""

    def run() -> None:
        for _ in range(CALLS):
            call()
        if device != "cpu":
            torch.cuda.synchronize(device)

    return run


def measure_overheads(seconds: float = 1.0, device: str = "cpu") -> list[Overhead]:
    """Without gradients, with them recorded, and with a backward pass; `seconds` for each."""
    overheads = []
    for what, make, with_gradients in (
        ("forward, no gradients", forward, False),
        ("forward, recorded", forward, True),
        ("forward and backward", forward_and_backward, True),
    ):
        contenders = []
        for attend, shape in ((sdpa, (1, HEADS, TOKENS, DIM)), (na1d, (1, TOKENS, HEADS, DIM))):
            inputs = [torch.randn(shape, device=device, requires_grad=with_gradients) for _ in range(3)]
            call = make(attend, inputs)
            contenders.append(Contender(attend.__name__, timed(batch(call, device))))
        samples = interleave(contenders, seconds, least_rounds=5, most_rounds=50)
        overheads.append(Overhead(what, *(1e6 * samples.median(name) / CALLS for name in ("sdpa", "na1d"))))
    return overheads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    device = parser.parse_args().device
    print(f"{'microseconds a call':<28}{'sdpa':>8}{'vicinal':>9}{'above':>8}")
    for overhead in measure_overheads(device=device):
        print(f"{overhead.what:<28}{overhead.sdpa:8.1f}{overhead.vicinal:9.1f}{overhead.above:8.1f}")


if __name__ == "__main__":
    main()
