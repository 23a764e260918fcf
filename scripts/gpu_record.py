#!/usr/bin/env python3
"""Joins what the steps of gpu-check.sh found into one JSON record, and prints it as a short table."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


def card() -> dict[str, str]:
    fields = ("name", "driver_version", "memory.total", "compute_cap")
    query = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    )
    values = query.stdout.splitlines()[0].split(", ")
    return dict(zip(fields, values, strict=True))


def cuda_version() -> str:
    """Of the toolkit here."""
    if not shutil.which("nvcc"):
        return "unknown"
    version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release ([\d.]+)", version)[1]


def steps(folder: Path) -> list[dict[str, Any]]:
    """In the order in which they began; one without seconds was cut short."""
    found = []
    for limit in sorted(folder.glob("*/limit"), key=lambda limit: limit.stat().st_mtime_ns):
        step = limit.parent
        seconds, log = step / "seconds", step / "log"
        found.append(
            {
                "step": step.name,
                "passed": (step / "passed").exists(),
                "seconds": int(seconds.read_text()) if seconds.exists() else None,
                "limit_seconds": int(limit.read_text()),
                "last_line": log.read_text(errors="replace").rstrip().rsplit("\n", 1)[-1],
            }
        )
    return found


def outcome(step: dict[str, Any]) -> str:
    if step["seconds"] is None:
        return f"CUT SHORT     of {step['limit_seconds']:4d} s"
    return f"{'passed' if step['passed'] else 'FAILED'} {step['seconds']:4d} s of {step['limit_seconds']:4d} s"


def records(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Those that were written: a program that failed may leave an empty file."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(pattern)) if path.stat().st_size > 0]


def milliseconds(result: dict[str, Any]) -> str:
    """Or why there are none."""
    return f"{1e3 * result['median_seconds']:9.3f}" if "median_seconds" in result else result["error"][:60]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--commit", required=True, help="what was checked")
    arguments = parser.parse_args()

    record = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": arguments.commit,
        "card": card(),
        "cuda": cuda_version(),
        "steps": steps(arguments.work / "steps"),
        "benchmarks": records(arguments.work, "bench-*.json"),
        "overheads": records(arguments.work, "overhead-*.json"),
        "first_plans": [
            plan for record in records(arguments.work, "first-plans.json") for plan in record["first_plans"]
        ],
    }
    if peers := records(arguments.work, "peers-*.json"):
        record["peers"] = peers[0] | {"results": [result for peer in peers for result in peer["results"]]}
    arguments.record.write_text(json.dumps(record, indent=2) + "\n")

    print(
        f"\n{record['card']['name']}, driver {record['card']['driver_version']}, CUDA {record['cuda']}, "
        f"commit {record['commit']}, {record['date']}; record: {arguments.record}\n"
    )
    for step in record["steps"]:
        print(f"{outcome(step)}  {step['step']:<13}{step['last_line'][:80]}")
    print(f"\n{'problem':<22}{'dtype':<7}{'operation':<28}{'kernel':<40}{'ms':>9}{'roofline':>10}")
    for benchmark in record["benchmarks"]:
        for result in benchmark["results"]:
            print(
                f"{result['name']:<22}{result['problem']['dtype']:<7}{result['operation']:<28}{result['kernel']:<40}"
                f"{1e3 * result['median_seconds']:9.3f}{100 * result['fraction_of_roofline']:9.1f}%"
            )
    if "peers" in record:
        print(f"\n{'problem':<22}{'dtype':<7}{'operation':<28}{'peer':<40}{'ms':>9}")
        for result in record["peers"]["results"]:
            if result.get("error") == "not installed":
                continue
            print(
                f"{result['name']:<22}{result['problem']['dtype']:<7}{result['operation']:<28}{result['peer']:<40}"
                f"{milliseconds(result)}"
            )
    for overheads in record["overheads"]:
        print(f"\n{'microseconds a call, ' + overheads['dtype']:<29}{'SDPA':>8}{'Vicinal':>9}{'above':>8}")
        for overhead in overheads["overheads"]:
            print(f"{overhead['what']:<29}{overhead['sdpa']:8.1f}{overhead['vicinal']:9.1f}{overhead['above']:8.1f}")


if __name__ == "__main__":
    main()
