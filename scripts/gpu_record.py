#!/usr/bin/env python3
"""Joins what the steps of gpu-check.sh found into one JSON record, and prints it as a short table."""

from __future__ import annotations

import argparse
import json
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


def steps(folder: Path) -> list[dict[str, Any]]:
    found = []
    for step in sorted(folder.iterdir(), key=lambda step: (step / "log").stat().st_mtime):
        found.append(
            {
                "step": step.name,
                "passed": (step / "passed").exists(),
                "seconds": int((step / "seconds").read_text()),
                "last_line": (step / "log").read_text(errors="replace").rstrip().rsplit("\n", 1)[-1],
            }
        )
    return found


def milliseconds(result: dict[str, Any]) -> str:
    """Or why there are none."""
    return f"{1e3 * result['median_seconds']:9.3f}" if "median_seconds" in result else result["error"][:60]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()

    record = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "card": card(),
        "steps": steps(arguments.work / "steps"),
        "benchmarks": [json.loads(path.read_text()) for path in sorted(arguments.work.glob("bench-*.json"))],
    }
    for name in ("overhead", "peers"):
        if (path := arguments.work / f"{name}.json").exists():
            record[name] = json.loads(path.read_text())
    arguments.record.write_text(json.dumps(record, indent=2) + "\n")

    print(f"\n{record['card']['name']}, driver {record['card']['driver_version']}; record: {arguments.record}\n")
    for step in record["steps"]:
        print(
            f"{'passed' if step['passed'] else 'FAILED'}  {step['seconds']:4d} s  {step['step']:<11} "
            f"{step['last_line'][:80]}"
        )
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
            print(
                f"{result['name']:<22}{result['problem']['dtype']:<7}{result['operation']:<28}{result['peer']:<40}"
                f"{milliseconds(result)}"
            )
    if "overhead" in record:
        print(f"\n{'microseconds a call, ' + record['overhead']['dtype']:<29}{'SDPA':>8}{'Vicinal':>9}{'above':>8}")
        for overhead in record["overhead"]["overheads"]:
            print(f"{overhead['what']:<29}{overhead['sdpa']:8.1f}{overhead['vicinal']:9.1f}{overhead['above']:8.1f}")


if __name__ == "__main__":
    main()
