#!/usr/bin/env python3
"""How long the first plan of a process takes, for the problems of a suite: each in processes of its own.

usage: scripts/first_plans.py VICINAL [--suite FILE] [--device cuda] [--processes 5] [--json FILE]

Prints microseconds for the forward pass: the median of all processes, the least and the worst. `vicinal plan --json`
says what they are of (docs/api.md).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

SUITE = Path(__file__).parents[1] / "benchmarks" / "suites" / "headline.json"


def planning_seconds(vicinal: str, problem: dict[str, Any], device: str) -> float:
    command = [vicinal, "plan", "--forward", "--json", "--device", device]
    for option in ("layout", "window", "stride", "dilation", "causal"):
        command += [f"--{option}", "x".join(map(str, problem[option]))]
    for option in ("batch", "heads", "dim", "dtype"):
        command += [f"--{option}", str(problem[option])]
    (plan,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return plan["planning_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vicinal", help="the program")
    parser.add_argument("--suite", type=Path, default=SUITE)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times")
    arguments = parser.parse_args()

    results = []
    print(f"{'microseconds':<22}{'median':>8}{'least':>8}{'worst':>8}")
    for problem in json.loads(arguments.suite.read_text()):
        seconds = [planning_seconds(arguments.vicinal, problem, arguments.device) for _ in range(arguments.processes)]
        results.append({"name": problem["name"], "seconds": seconds})
        shown = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"{problem['name']:<22}" + "".join(f"{1e6 * x:8.0f}" for x in shown), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": arguments.device, "first_plans": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
