"""What a windowed pass on a CPU takes at least: a roofline of four terms whose rates are measured in the same run.

The target for a window is a share of the speed-up over dense attention that its visited multiply-adds allow. Dense
attention does everything that is done once for a token, or once for a token and a tile, for next to nothing; a small
window does not. The terms, none of which hides behind another:

products   the visited multiply-adds, with their softmax, at the rate of the dense run beside it
memory     inputs read once and results written once, at the bandwidth of a copy
pages      results come in memory that nobody has touched: what the system takes to clear it
keys       each work item moves the keys and values of its halo, whose rows lie apart in memory, side by side, and the
           backward pass adds their gradients to sums: at the speed of a contiguous copy inside the second-level cache
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import vicinal

from benchmarks.measure import Contender, interleave, timed
from benchmarks.problem import Problem

FLOAT_BYTES = 4


@dataclass
class Rates:
    """Of this machine, in PyTorch's threads."""

    page_seconds_per_byte: float  # the first write to memory, above a later one
    near_bytes_per_second: float  # a copy inside the second-level cache, reads and writes both counted

    @classmethod
    def measure(cls) -> Rates:
        count = 1 << 24
        kept = torch.empty(count)
        fills = [  # NumPy asks for huge pages, as vicinal does for its results
            Contender("fresh", timed(lambda: torch.from_numpy(np.empty(count, np.float32)).fill_(1.0))),
            Contender("kept", timed(lambda: kept.fill_(1.0))),
        ]
        samples = interleave(fills, 1.0, 5, 20)
        pages = max(0.0, samples.median("fresh") - samples.median("kept")) / (FLOAT_BYTES * count)

        # Copies as small as this one run in one thread.
        source, repetitions = torch.ones(1 << 14), 2000
        target = torch.empty_like(source)

        def copy() -> None:
            for _ in range(repetitions):
                target.copy_(source)

        seconds = min(interleave([Contender("near", timed(copy))], 0.5, 5, 20).seconds["near"])
        return cls(pages, 2 * source.nbytes * repetitions / seconds * torch.get_num_threads())


@dataclass
class Bound:
    """Seconds of the terms, and what they leave of the target."""

    problem: str
    operation: str
    products: float
    memory: float
    pages: float
    keys: float
    measured: float  # seconds that the pass took

    @property
    def total(self) -> float:
        return self.products + self.memory + self.pages + self.keys

    @property
    def share(self) -> float:
        """The largest share of the speed-up over dense attention that the terms allow."""
        return self.products / self.total

    @property
    def reached(self) -> float:
        return self.total / self.measured


def halo_rows(problem: Problem, plan: vicinal.Plan) -> int:
    """Keys of all work items, those that items share counted for each."""
    count = problem.batch * problem.heads
    for extent, window, starts, tile, tiles in zip(
        problem.layout, problem.window, problem.starts, plan.query_tile, plan.block, strict=True
    ):
        first = torch.arange(0, extent, tile * tiles)
        last = (first + tile * tiles).clamp(max=extent) - 1
        count *= int((starts[last] + window - starts[first]).sum())
    return count


def bound_of(
    problem: Problem,
    plan: vicinal.Plan,
    dense: tuple[vicinal.Plan, float],
    measured: float,
    copy_bytes_per_second: float,
    rates: Rates,
) -> Bound:
    """Of a pass in fp32 beside the dense pass of the same tokens: its plan, and the seconds that it took."""
    dense_plan, dense_seconds = dense
    rows = problem.batch * problem.heads * problem.tokens
    backward = plan.operation == "backward"
    results, moved = (3, 4) if backward else (1, 2)
    row_bytes = problem.dim * FLOAT_BYTES
    return Bound(
        problem=problem.name,
        operation=plan.operation,
        products=plan.visited_multiply_adds / dense_plan.visited_multiply_adds * dense_seconds,
        memory=plan.bytes / copy_bytes_per_second,
        pages=results * rows * row_bytes * rates.page_seconds_per_byte,
        keys=2 * moved * halo_rows(problem, plan) * row_bytes / rates.near_bytes_per_second,
        measured=measured,
    )
