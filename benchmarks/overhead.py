"""What a call costs beside its arithmetic: a tiny problem through vicinal and through scaled_dot_product_attention.

Both are eager PyTorch calls on the same 16 tokens, 1 head, dim 8, window 16, so both compute the same dense attention.
The functions take turns, so that a busy machine slows all of them alike; medians of batches of calls, in microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import vicinal
from torch.nn.functional import scaled_dot_product_attention

TOKENS, HEADS, DIM = 16, 1, 8


def forward(attend: Callable, inputs: list[torch.Tensor], _gradient: torch.Tensor) -> Callable[[], object]:
    return lambda: attend(*inputs)


def forward_and_backward(attend: Callable, inputs: list[torch.Tensor], gradient: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(attend(*inputs), inputs, gradient)


def measure(functions: list[Callable[[], object]], batches: int, calls: int) -> list[float]:
    """Median time of a call of each function, in microseconds."""
    times: list[list[float]] = [[] for _ in functions]
    for batch in range(batches + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            for _ in range(calls):
                function()
            if batch > 0:  # the first warms up
                taken.append((time.perf_counter() - start) / calls * 1e6)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=41)
    parser.add_argument("--calls", type=int, default=200)
    arguments = parser.parse_args()

    def sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value)

    def na1d(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return vicinal.na1d(query, key, value, TOKENS)

    print(f"{'microseconds a call':<28}{'sdpa':>8}{'vicinal':>9}{'above':>8}")
    for title, run, with_gradient in (
        ("forward, no gradients", forward, False),
        ("forward, recorded", forward, True),
        ("forward and backward", forward_and_backward, True),
    ):
        functions = []
        for attend, shape in ((sdpa, (1, HEADS, TOKENS, DIM)), (na1d, (1, TOKENS, HEADS, DIM))):
            inputs = [torch.randn(shape, requires_grad=with_gradient) for _ in range(3)]
            functions.append(run(attend, inputs, torch.randn(shape)))
        theirs, ours = measure(functions, arguments.batches, arguments.calls)
        print(f"{title:<28}{theirs:8.1f}{ours:9.1f}{ours - theirs:8.1f}")


if __name__ == "__main__":
    main()
