"""What PyTorch's ways to attend take on a suite's problems on a GPU, beside the times of `vicinal bench --json`.

    vicinal bench --device cuda --suite benchmarks/suites/headline.json --cold --json vicinal.json
    python -m benchmarks.peers --record vicinal.json --plot peers.png

    python -m benchmarks.peers --from benchmarks/results/PEERS.json --record NEWER.json    measures nothing, joins again

    python -m benchmarks.peers --only 1d --then --only 2d_flux --peers cudnn    one after the other

Prints a table in Markdown and writes a record. A peer that fails on a problem, for lack of memory say, is recorded as
that. Dense attention has no neighborhoods: its problems are the suite's with all pairs of tokens. The others are first
compared with Vicinal, and only timed where they agree. Forward passes record gradients, as in training.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import vicinal

from benchmarks.comparison import Comparison, draw, load_vicinal_results
from benchmarks.gpu_peers import PEERS, Peer, error_of, gradients_of
from benchmarks.gpu_timing import cold_tensors, describe, measure
from benchmarks.problem import Problem, Tensors, load_suite
from benchmarks.report import commit
from benchmarks.runs import runs

OPERATIONS = ("forward", "backward")
MOST_ERROR = {"fp16": 1e-2, "bf16": 4e-2, "fp32": 1e-3}  # the peer's rounding; another neighborhood is off by far more

Result = dict[str, Any]


def measure_peer(
    peer: Peer, problem: Problem, operations: tuple[str, ...], seconds: float, device: str
) -> dict[str, Result]:
    """What is found of each pass. Raises what the peer raises, and ValueError where its result is wrong."""
    attend = peer.prepare(problem, device)
    inputs = cold_tensors(problem, device)
    checked = {}
    if not peer.dense:
        error = error_of(peer, attend, problem, inputs[0], "backward" in operations)
        if not error <= MOST_ERROR[problem.dtype]:
            raise ValueError(f"differs from vicinal by {error:.1e}")
        checked = {"relative_error": error}
    leaves = [peer.layout(x).requiring_grad() for x in inputs]
    del inputs
    found = {}
    if "forward" in operations:
        timing = measure([lambda x=x: attend(*x.inputs) for x in leaves], seconds, device)
        found["forward"] = asdict(timing) | checked
    if "backward" in operations:
        timing = measure([_backward(attend(*x.inputs), x) for x in leaves], seconds, device)
        found["backward"] = asdict(timing) | checked
    return found


def _backward(output: torch.Tensor, leaves: Tensors) -> Callable[[], object]:
    return lambda: gradients_of(output, leaves)


def results_of(name: str, problem: Problem, operations: tuple[str, ...], seconds: float, device: str) -> list[Result]:
    """A result for each pass: its time, or in a word or two why there is none."""
    found: dict[str, Result] = {}
    error = ""
    try:
        if name == "natten" and importlib.util.find_spec("natten") is None:
            error = "not installed"
        else:
            found = measure_peer(PEERS[name], problem, operations, seconds, device)
    except torch.OutOfMemoryError as failure:
        error = f"out of memory: {_in_short(failure)}"
    except Exception as failure:  # whatever a peer raises is its result
        error = f"{type(failure).__name__}: {_in_short(failure)}"
    if device != "cpu":
        gc.collect()
        torch.cuda.empty_cache()
    results = []
    for operation in operations:
        result = {"name": problem.name, "operation": operation, "peer": name, "problem": problem.parameters}
        results.append(result | found.get(operation, {"error": error}))
    return results


def _in_short(failure: Exception) -> str:
    return " ".join(str(failure).split())[:300]


def measure_suite(problems: list[Problem], arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    """Adds results to the record, and writes it after each, so that a run that is cut short leaves what it has."""
    start = time.monotonic()
    dense: dict[tuple[Any, ...], list[Result]] = {}  # of problems that differ in their windows only
    for name in arguments.peers:
        for problem in problems:
            shape = (name, problem.tokens, problem.batch, problem.heads, problem.dim, problem.dtype)
            if PEERS[name].dense and shape in dense:
                results = [result | {"name": problem.name, "problem": problem.parameters} for result in dense[shape]]
            elif arguments.budget and time.monotonic() - start > arguments.budget:
                results = [
                    {"name": problem.name, "operation": operation, "peer": name, "problem": problem.parameters,
                     "error": "no time left"}
                    for operation in arguments.operations
                ]  # fmt: skip
            else:
                results = results_of(name, problem, arguments.operations, arguments.seconds, arguments.device)
                dense[shape] = results
            record["results"] += results
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(record, indent=1) + "\n")
            for result in results:
                took = f"{1e3 * result['median_seconds']:.3f} ms" if "error" not in result else result["error"]
                print(f"{time.monotonic() - start:6.1f} s  {problem.name:<22}{result['operation']:<10}{name:<8}{took}")
                sys.stdout.flush()


def parse_arguments(of_run: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="headline", help="name or file of a suite [headline]")
    parser.add_argument("--only", action="append", metavar="NAME", help="only problems whose name contains this")
    parser.add_argument("--dtype", choices=MOST_ERROR, help="instead of each problem's own")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=" ".join(PEERS))
    parser.add_argument("--forward", action="store_true", help="only the forward pass")
    parser.add_argument("--seconds", type=float, default=0.5, help="to measure each peer, problem and pass for [0.5]")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="begin nothing more when so much time is over")
    parser.add_argument(
        "--record", action="append", type=Path, default=[], metavar="FILE",
        help="Vicinal's times: a record of `vicinal bench --json` or gpu-check.sh; of several, the last that has one",
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="known", type=Path, metavar="FILE", help="a record of this program to join again"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="the record [benchmarks/results/DATE-CARD-peers.json]"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw both in a PNG")
    arguments = parser.parse_args(of_run)
    arguments.operations = OPERATIONS[:1] if arguments.forward else OPERATIONS
    return arguments


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    problems = load_suite(arguments.suite, arguments.dtype)
    chosen = [p for p in problems if any(name in p.name for name in arguments.only or [""])]
    if not chosen:
        sys.exit(f"--only {' '.join(arguments.only)} matches none of {', '.join(p.name for p in problems)}")
    now = datetime.datetime.now(datetime.timezone.utc)
    record = {
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "vicinal": vicinal.__version__,
        **describe(arguments.device),
        "results": [],
    }
    if not arguments.json:
        card = record["card"].lower().replace("nvidia ", "").replace(" ", "-")
        arguments.json = Path(__file__).parent / "results" / f"{now:%Y-%m-%d}-{card}-peers.json"
    measure_suite(chosen, arguments, record)
    return record


def run(arguments: argparse.Namespace) -> None:
    record = json.loads(arguments.known.read_text()) if arguments.known else measured(arguments)
    comparison = Comparison(record["results"], load_vicinal_results(arguments.record))
    if arguments.plot:
        draw(comparison, f"{record['card']}, milliseconds", arguments.plot)
    versions = ", ".join(f"{key} {record[key]}" for key in ("driver", "cuda", "cudnn", "torch") if record[key])
    print(f"\n{record['card']}, {versions}, {record['date']}; milliseconds\n\n{comparison.table()}")


def main() -> None:
    for arguments in [parse_arguments(of_run) for of_run in runs(sys.argv[1:])]:
        run(arguments)


if __name__ == "__main__":
    main()
