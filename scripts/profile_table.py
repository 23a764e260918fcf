#!/usr/bin/env python3
"""Prints what ncu found of each kernel, from the file that one of gpu-check.sh's steps `profiles` leaves.

usage: scripts/profile_table.py [FILE]

Microseconds; percent of the peak: tensor cores, exponentials, issue slots, first-level cache and shared memory,
second-level cache, memory; gigabytes from and to memory and the second-level cache; warps of a scheduler, active and
ready; clock.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

COLUMNS = {
    "us": ("gpu__time_duration.sum", 1e-3),
    "tensor": ("sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_elapsed", 1),
    "exp": ("sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_elapsed", 1),
    "issue": ("sm__inst_issued.avg.pct_of_peak_sustained_elapsed", 1),
    "L1": ("l1tex__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "L2": ("lts__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "memory": ("dram__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "GB": ("dram__bytes.sum", 1e-9),
    "L2 GB": ("lts__t_bytes.sum", 1e-9),
    "active": ("smsp__warps_active.avg.per_cycle_active", 1),
    "ready": ("smsp__warps_eligible.avg.per_cycle_active", 1),
    "GHz": ("sm__cycles_elapsed.avg.per_second", 1e-9),
}
PASSES = ["forward", "pairs", "dQ", "dK dV", "dK", "dV", "one pass"]  # of enum Pass


def short_name(kernel: str) -> str:
    if found := re.search(r"KernelConfig<.*?(\w+), .*?(\d+), (\d+), (\d+)>", kernel):
        return f"{PASSES[int(found[2])]} {found[3]}x{found[4]}"
    return re.search(r"(\w+)_kernel", kernel)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path("build/gpu-check/profiles-headline.csv"))
    file = parser.parse_args().file

    print(f"{'':<24}" + "".join(f"{name:>9}" for name in COLUMNS))
    for part in file.read_text().split("# ")[1:]:
        title, *lines = part.splitlines()
        launches: dict[str, dict[str, str]] = {}
        for row in csv.DictReader(line for line in lines if line.startswith('"')):
            launch = launches.setdefault(row["ID"], {"kernel": row["Kernel Name"]})
            launch[row["Metric Name"]] = row["Metric Value"].replace(",", "")
        print(title)
        for launch in launches.values():
            values = [float(launch[metric]) * unit for metric, unit in COLUMNS.values()]
            print(f"  {short_name(launch['kernel']):<22}" + "".join(f"{value:9.4g}" for value in values))


if __name__ == "__main__":
    main()
