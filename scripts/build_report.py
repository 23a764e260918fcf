#!/usr/bin/env python3
"""Prints how long each CUDA source took to compile, longest first, and how much memory, as far as it was recorded.

usage: scripts/build_report.py [BUILD_FOLDER] [--limit SECONDS] [--memory-limit GB] [--total-limit SECONDS]

Times are from the log that ninja keeps; a file that ccache had counts with the time that took. Memory is that of the
last compilation under scripts/record_memory.py, if there was one. Exits with 1 where something took more than a limit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

CORES = 2  # of the machine that the whole build is to be done on


class Step(NamedTuple):
    command: str
    seconds: float


def newest_steps(build: Path) -> dict[str, Step]:
    """By what they make, as far as it exists: else it is of a source that is gone."""
    steps = {}
    for line in (build / ".ninja_log").read_text().splitlines():
        if line.startswith("#"):
            continue
        start, end, _mtime, output, command = line.split("\t")
        if (build / output).exists():
            steps[output] = Step(command, (int(end) - int(start)) / 1000)
    return steps


def recorded_gigabytes(made: Path) -> float | None:
    record = made.with_name(made.name + ".memory")
    return int(record.read_text()) / 1e9 if record.exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", type=Path, default=Path("build/cuda"), help="a build folder of ninja's")
    parser.add_argument("--limit", type=float, help="seconds that a CUDA source may take")
    parser.add_argument("--memory-limit", type=float, help="GB that it may")
    parser.add_argument("--total-limit", type=float, help=f"seconds that the whole build may, on {CORES} cores")
    arguments = parser.parse_args()

    steps = newest_steps(arguments.build)
    exceeded = []

    def check(what: str, taken: float, limit: float | None, unit: str) -> None:
        if limit is not None and taken > limit:
            exceeded.append(f"{what} took {taken:.1f} {unit}; allowed: {limit:g}")

    sources = {output: step.seconds for output, step in steps.items() if output.endswith(".cu.o")}
    for output, seconds in sorted(sources.items(), key=lambda item: -item[1]):
        source = output.split(".dir/")[-1].removesuffix(".o")
        gigabytes = recorded_gigabytes(arguments.build / output)
        memory = " unmeasured" if gigabytes is None else f"{gigabytes:8.2f} GB"
        print(f"{seconds:8.1f} s {memory}  {source}")
        check(source, seconds, arguments.limit, "s")
        check(source, gigabytes or 0, arguments.memory_limit, "GB")
    print(f"{sum(sources.values()):8.1f} s  {len(sources)} CUDA sources, one after the other")

    by_command = dict(steps.values())  # some make several files
    total = sum(by_command.values()) / CORES
    print(f"{total:8.1f} s  the whole build, shared by {CORES} cores")
    check("the whole build", total, arguments.total_limit, "s")
    for line in exceeded:
        print(line, file=sys.stderr)
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
