"""Vicinal beside PyTorch on this machine's CPU: the same problems, in one process, in turn.

    python -m benchmarks.cpu             everything: about a quarter of an hour on two cores
    python -m benchmarks.cpu --quick     the problems of 4096 tokens
    python -m benchmarks.cpu --only w13  the problems whose name contains w13, and the dense ones of their layouts

Prints Markdown: what was measured, then every target with the figure that it was met or missed by.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch
import vicinal

from benchmarks import cpu_peers as peers
from benchmarks.bound import Bound, Rates, bound_of
from benchmarks.cpu_peers import Peer
from benchmarks.measure import (
    Contender,
    Samples,
    copy_bytes_per_second,
    interleave,
    matmul_multiply_adds_per_second,
    peak_memory_bytes,
    timed,
)
from benchmarks.overhead import measure_overheads
from benchmarks.problem import Problem, Tensors, load_suite, random_tensors
from benchmarks.report import commit, markdown_head, markdown_line

DENSE_LIMIT = {4096: 1.0, 16384: 1.1}  # tokens: most that a dense run may take, in times of PyTorch's
WASTE_LIMIT = {7: 2.0, 13: 1.6, 31: 1.25}  # window: most multiply-adds visited for each needed one, in 2-D
WASTE_LIMIT_3D = 2.5
LEAST_SPEEDUP = 3.0  # over the best of PyTorch's alternatives
LEAST_SHARE = 0.7  # of the ratio of visited multiply-adds, or of the copy bandwidth
MEMORY_LIMIT_MIB = 64
OVERHEAD_LIMIT_MICROSECONDS = 20

OPERATIONS = ("forward", "backward")


@dataclass
class Machine:
    threads: int
    copy_bytes_per_second: float
    multiply_adds_per_second: float
    rates: Rates


@dataclass
class Row:
    """One problem and pass: how long it took, and what it did in that time."""

    problem: str
    operation: str
    kernel: str
    milliseconds: float
    visited_over_needed: float
    gigaflops: float  # two for each needed multiply-add
    share_of_matmul: float  # visited multiply-adds a second over those of PyTorch's matrix product
    share_of_copy: float  # bytes a second over those of a copy
    extra_mib: float  # peak memory beyond inputs and outputs
    peer: str = ""
    peer_milliseconds: float = 0.0


@dataclass
class Target:
    text: str
    limit: str
    measured: str
    met: bool


class Ours(Contender):
    """Vicinal on one problem and pass. The first run also measures its memory."""

    def __init__(self, problem: Problem, operation: str, tensors: Tensors) -> None:
        super().__init__(problem.name, self._first_run)
        self.problem = problem
        self.plan = problem.plan(operation)
        self.extra_bytes = 0
        self._result_bytes = tensors.query.nbytes * (3 if operation == "backward" else 1)
        self._call = self._make_call(problem, operation, tensors)

    def _first_run(self) -> float:
        seconds = 0.0

        def call() -> object:
            nonlocal seconds
            start = time.perf_counter()
            result = self._call()
            seconds = time.perf_counter() - start
            return result

        self.extra_bytes = max(0, peak_memory_bytes(call) - self._result_bytes)
        self.run = timed(self._call)
        return seconds

    @staticmethod
    def _make_call(problem: Problem, operation: str, tensors: Tensors) -> Callable[[], object]:
        if operation == "forward":
            return lambda: problem.attend(*tensors.inputs)
        leaves = tensors.requiring_grad()
        return peers.backward_of(problem.attend(*leaves.inputs), leaves)


class Report:
    """Collects what is measured, and prints it as it comes."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.rows: list[Row] = []
        self.targets: list[Target] = []
        self.bounds: list[Bound] = []

    def add_row(self, ours: Ours, operation: str, seconds: float, peer: str = "", peer_seconds: float = 0.0) -> None:
        plan = ours.plan
        row = Row(
            problem=ours.problem.name,
            operation=operation,
            kernel=plan.kernel,
            milliseconds=1e3 * seconds,
            visited_over_needed=plan.visited_multiply_adds / plan.needed_multiply_adds,
            gigaflops=2e-9 * plan.needed_multiply_adds / seconds,
            share_of_matmul=plan.visited_multiply_adds / seconds / self.machine.multiply_adds_per_second,
            share_of_copy=plan.bytes / seconds / self.machine.copy_bytes_per_second,
            extra_mib=ours.extra_bytes / 2**20,
            peer=peer,
            peer_milliseconds=1e3 * peer_seconds,
        )
        self.rows.append(row)
        print(format_row(row), flush=True)

    def at_most(self, text: str, limit: float, measured: float) -> None:
        self.targets.append(Target(text, f"<= {limit:.2f}", f"{measured:.2f}", measured <= limit))

    def at_least(self, text: str, limit: float, measured: float) -> None:
        self.targets.append(Target(text, f">= {limit:.2f}", f"{measured:.2f}", measured >= limit))


ROW_HEADER = (
    "problem", "pass", "kernel", "ms", "visited/needed", "GFLOP/s", "of matmul", "of copy", "extra MiB",
    "PyTorch's best", "its ms", "ratio",
)  # fmt: skip


def format_row(row: Row) -> str:
    peer = [row.peer, f"{row.peer_milliseconds:.1f}", f"{row.peer_milliseconds / row.milliseconds:.2f}"]
    return markdown_line(
        [
            row.problem, row.operation, row.kernel, f"{row.milliseconds:.1f}", f"{row.visited_over_needed:.2f}",
            f"{row.gigaflops:.1f}", f"{row.share_of_matmul:.0%}", f"{row.share_of_copy:.0%}", f"{row.extra_mib:.1f}",
            *(peer if row.peer else ["", "", ""]),
        ]
    )  # fmt: skip


def print_header(title: str, cells: tuple[str, ...]) -> None:
    print(f"\n{title}\n\n{markdown_head(cells)}", flush=True)


def check_same(peer: Peer, problem: Problem, tensors: Tensors) -> None:
    """A peer that computes something else would be no peer."""
    with torch.no_grad():
        expected = problem.attend(*tensors.inputs)[0].flatten(0, -3).transpose(0, 1)
        actual = peer.output()
        error = (actual - expected[: actual.shape[0]]).norm() / expected[: actual.shape[0]].norm()
    if not error < 1e-4:
        sys.exit(f"{peer.contender.name} and vicinal differ on {problem.name}: relative error {error:.1e}")


def measure_layout(report: Report, problems: list[Problem], operation: str, budget: float) -> None:
    """All windows of one layout beside PyTorch's dense attention."""
    tensors = random_tensors(problems[0])
    ours = [Ours(problem, operation, tensors) for problem in problems]
    dense = next(contender for contender in ours if contender.problem.is_dense)
    sdpa = peers.dense_sdpa(tensors.heads_first(dense.problem.heads), operation == "backward")
    if operation == "forward":
        check_same(sdpa, dense.problem, tensors)
    samples = interleave([sdpa.contender, *ours], budget, least_rounds=2, most_rounds=15)

    report.add_row(dense, operation, samples.median(dense.name), "SDPA", samples.median("SDPA"))
    ratio = samples.ratio(dense.name, "SDPA")
    report.at_most(f"{dense.name} {operation}: time over SDPA's", DENSE_LIMIT[dense.problem.tokens], ratio)
    for contender in ours:
        if contender is not dense:
            judge_window(report, contender, dense, operation, samples)
            report.add_row(contender, operation, samples.median(contender.name))


def judge_window(report: Report, ours: Ours, dense: Ours, operation: str, samples: Samples) -> None:
    """Against the dense run of the same tokens: either by the work that is left, or by the memory traffic."""
    problem = ours.problem
    limit = WASTE_LIMIT_3D if len(problem.layout) == 3 else WASTE_LIMIT[problem.window[0]]
    waste = ours.plan.visited_multiply_adds / ours.plan.needed_multiply_adds
    report.at_most(f"{problem.name} {operation}: visited over needed", limit, waste)

    possible = dense.plan.visited_multiply_adds / ours.plan.visited_multiply_adds
    share = samples.ratio(dense.name, ours.name) / possible
    bandwidth = ours.plan.bytes / samples.median(ours.name) / report.machine.copy_bytes_per_second
    text = f"{problem.name} {operation}: speed-up over dense, of the {possible:.1f} that its work allows"
    if bandwidth > share:
        text = f"{problem.name} {operation}: share of the copy bandwidth"
    report.at_least(text, LEAST_SHARE, max(share, bandwidth))
    dense_run = (dense.plan, samples.ratio(dense.name, ours.name) * samples.median(ours.name))
    copy_rate, rates = report.machine.copy_bytes_per_second, report.machine.rates
    report.bounds.append(bound_of(problem, ours.plan, dense_run, samples.median(ours.name), copy_rate, rates))


def measure_window(report: Report, problem: Problem, operation: str, budget: float) -> None:
    """One windowed problem beside the best that PyTorch offers for it."""
    tensors = random_tensors(problem)
    rivals = quickest_peers(problem, tensors, operation == "backward")
    ours = Ours(problem, operation, tensors)
    samples = interleave([*rivals, ours], budget, least_rounds=2, most_rounds=15)
    best = min((rival.name for rival in rivals), key=samples.median)
    report.add_row(ours, operation, samples.median(ours.name), best, samples.median(best))
    text = f"{problem.name} {operation}: speed-up over {best}"
    report.at_least(text, LEAST_SPEEDUP, samples.ratio(best, ours.name))


def quickest_peers(problem: Problem, tensors: Tensors, backward: bool) -> list[Contender]:
    """Those of PyTorch's ways that one try finds within twice the time of the quickest.

    Those that need no compilation are tried on a head for each thread only: heads are independent.
    """
    some = tensors.heads_first(min(problem.heads, torch.get_num_threads()))
    every = tensors.heads_first(problem.heads)
    candidates: list[tuple[Callable[[Tensors], Peer], Tensors]] = []
    if backward:
        candidates.append((lambda t: peers.unfolded_backward(problem, t), some))
    else:
        candidates.append((lambda t: peers.unfolded(problem, t), every))
        candidates.append((lambda t: peers.flex(problem, t), every))
    if peers.mask_bytes(problem) <= peers.MASK_LIMIT_BYTES:
        candidates.append((lambda t: peers.masked_sdpa(problem, t, backward), some))
    else:
        print(f"masked SDPA is left out: its mask would take {peers.mask_bytes(problem) / 2**30:.1f} GiB")

    estimates = []
    for make, part in candidates:
        peer = make(part)
        check_same(peer, problem, tensors)  # compiles, too
        estimates.append((peer.contender.run() * problem.heads / part.query.shape[1], peer.contender.name))
    tried = ", ".join(f"{name} {seconds:.2f} s" for seconds, name in estimates)
    print(f"<!-- {problem.name} {'backward' if backward else 'forward'}: {tried} -->", flush=True)
    limit = 2 * min(estimates)[0]
    near = [make for (make, _), (seconds, _) in zip(candidates, estimates, strict=True) if seconds <= limit]
    return [make(every).contender for make in near]


def print_bounds(report: Report) -> None:
    """How much of the speed-up over dense attention what else has to be done leaves (benchmarks/bound.py)."""
    rates = report.machine.rates
    print_header(
        f"The bound of each share, milliseconds; fresh pages take {1e12 * rates.page_seconds_per_byte:.0f} us a MB, a "
        f"copy inside the caches moves {rates.near_bytes_per_second / 1e9:.0f} GB/s:",
        ("problem", "pass", "products", "memory", "pages", "keys", "sum", "measured", "share allowed", "reached"),
    )
    for bound in report.bounds:
        terms = (bound.products, bound.memory, bound.pages, bound.keys, bound.total, bound.measured)
        figures = [*(f"{1e3 * term:.1f}" for term in terms), f"{bound.share:.2f}", f"{bound.reached:.0%}"]
        print(markdown_line([bound.problem, bound.operation, *figures]), flush=True)


def measure_calls(report: Report) -> None:
    """What a call costs beyond its arithmetic."""
    print_header("A call on 16 tokens, microseconds:", ("pass", "SDPA", "vicinal", "above"))
    for overhead in measure_overheads():
        figures = (overhead.sdpa, overhead.vicinal, overhead.above)
        print(markdown_line([overhead.what, *(f"{figure:.1f}" for figure in figures)]), flush=True)
        report.at_most(f"a call, {overhead.what}: microseconds above SDPA", OVERHEAD_LIMIT_MICROSECONDS, overhead.above)


def choose_problems(arguments: argparse.Namespace) -> list[Problem]:
    """In order of layout; each layout keeps its dense problem, which the others are compared with."""
    problems = load_suite("cpu")
    if arguments.quick:
        problems = [problem for problem in problems if problem.tokens <= 4096]
    chosen = [p for p in problems if any(name in p.name for name in arguments.only or [""])]
    if not chosen:
        sys.exit(f"--only {' '.join(arguments.only)} matches none of {', '.join(p.name for p in problems)}")
    layouts = {problem.layout for problem in chosen}
    return [p for p in problems if p in chosen or (p.is_dense and p.layout in layouts)]


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def save(report: Report, path: Path) -> None:
    record = {
        "vicinal": vicinal.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "machine": asdict(report.machine),
        "rows": [asdict(row) for row in report.rows],
        "targets": [asdict(target) for target in report.targets],
        "bounds": [asdict(bound) | {"share": bound.share, "reached": bound.reached} for bound in report.bounds],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only problems of 4096 tokens")
    parser.add_argument("--only", action="append", metavar="NAME", help="only problems whose name contains this")
    parser.add_argument("--forward", action="store_true", help="only the forward pass")
    parser.add_argument("--backward", action="store_true", help="only the backward pass")
    parser.add_argument("--no-peers", action="store_true", help="leave out PyTorch's alternatives to a window")
    parser.add_argument("--seconds", type=float, default=20, help="time to spend on each comparison [20]")
    parser.add_argument("--threads", type=int, help="of both libraries; PyTorch's default when absent")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write a record, such as benchmarks/results/NAME.json"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    problems = choose_problems(arguments)
    chosen_passes = [operation for operation in OPERATIONS if getattr(arguments, operation)]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    machine = Machine(
        torch.get_num_threads(), copy_bytes_per_second(), matmul_multiply_adds_per_second(), Rates.measure()
    )
    report = Report(machine)
    print(
        f"{cpu_name()}, {machine.threads} threads, PyTorch {torch.__version__}, vicinal {vicinal.__version__} at "
        f"{commit()}; copy {machine.copy_bytes_per_second / 1e9:.1f} GB/s, fp32 matrix product "
        f"{2e-9 * machine.multiply_adds_per_second:.1f} GFLOP/s"
    )
    for operation in chosen_passes or OPERATIONS:
        print_header(f"fp32, {operation}, beside PyTorch's dense attention:", ROW_HEADER)
        for _, group in groupby(problems, key=lambda problem: problem.layout):
            measure_layout(report, list(group), operation, arguments.seconds)
        windowed = [problem for problem in problems if not problem.is_dense]
        if windowed and not arguments.no_peers:
            print_header(f"fp32, {operation}, beside PyTorch's best for the same result:", ROW_HEADER)
            for problem in windowed:
                measure_window(report, problem, operation, arguments.seconds)
        largest = max(row.extra_mib for row in report.rows if row.operation == operation)
        report.at_most(f"{operation}: most MiB beyond inputs and outputs", MEMORY_LIMIT_MIB, largest)
    print_bounds(report)
    measure_calls(report)

    print_header("Targets:", ("target", "limit", "measured", "met"))
    for target in report.targets:
        print(markdown_line([target.text, target.limit, target.measured, "yes" if target.met else "**no**"]))
    missed = sum(not target.met for target in report.targets)
    print(f"\n{len(report.targets) - missed} of {len(report.targets)} targets met.")
    if arguments.json:
        save(report, arguments.json)


if __name__ == "__main__":
    main()
