#!/usr/bin/env python3
"""Prints how long each CUDA source took to compile, longest first, from the log that ninja keeps.

usage: scripts/build_report.py [BUILD_FOLDER] [--limit SECONDS]

A file that ccache had counts with the time that took. With --limit, exits with 1 where a file took longer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def seconds_of_sources(build: Path) -> dict[str, float]:
    """Of the newest build of each .cu file, by its path under src/."""
    seconds = {}
    for line in (build / ".ninja_log").read_text().splitlines():
        if line.startswith("#"):
            continue
        start, end, _mtime, output, _command = line.split("\t")
        if output.endswith(".cu.o") and (build / output).exists():  # else of a source that is gone
            seconds[output.split(".dir/")[-1].removesuffix(".o")] = (int(end) - int(start)) / 1000
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", type=Path, default=Path("build/cuda"), help="a build folder of ninja's")
    parser.add_argument("--limit", type=float, help="seconds that a file may take")
    arguments = parser.parse_args()

    seconds = seconds_of_sources(arguments.build)
    for source, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{taken:8.1f} s  {source}")
    print(f"{sum(seconds.values()):8.1f} s  {len(seconds)} CUDA sources, one after the other")
    if arguments.limit is None or max(seconds.values(), default=0) <= arguments.limit:
        return 0
    print(f"a file took longer than {arguments.limit:g} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
