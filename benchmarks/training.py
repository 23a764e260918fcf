"""A training step of a transformer block, with neighborhood attention and with what PyTorch has instead.

    python -m benchmarks.training [--json FILE]
    python -m benchmarks.training --suite MINE.json --device cpu --dtype fp32 --no-compile

A step is forward pass, backward pass (the gradient of the block's input included, as inside a network) and SGD. The
block is pre-norm: attention between two projections, then an MLP four times as wide, each with a residual connection.
Parameters are float32, products in the dtype of the problem by autocast.

Prints a table in Markdown: the median time of a step, and its peak memory above what is held between steps (parameters,
optimizer, input, target, block mask): activations, gradients and workspaces. What fails is recorded with its reason.
Dense attention computes something else, from all pairs of tokens; the others must agree in loss and gradients with
Vicinal's eager step before they are timed.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import vicinal
from torch import nn
from torch.nn.functional import mse_loss, scaled_dot_product_attention

from benchmarks.comparison import milliseconds
from benchmarks.gpu_peers import PEERS, Attention, Peer
from benchmarks.gpu_timing import describe, measure
from benchmarks.problem import DTYPES, Problem, load_suite
from benchmarks.report import commit, markdown_head, markdown_line

MODES = ("eager", "compiled")
WARM_UP_STEPS = 3
LEARNING_RATE = 1e-3
MOST_ERROR = {"fp16": 1e-2, "bf16": 4e-2, "fp32": 1e-3}  # rounding takes a tenth; other neighborhoods are off by 0.7

ATTENTIONS = {
    "vicinal": Peer("Vicinal", False, False, lambda problem, _device: problem.attend),
    "sdpa": Peer("SDPA, dense", True, True, lambda _problem, _device: scaled_dot_product_attention),
    "cudnn": PEERS["cudnn"],
    "flex": PEERS["flex"],
}

Result = dict[str, Any]


class Block(nn.Module):
    """A pre-norm transformer block: tokens [batch, *layout, heads * dim] to the same."""

    def __init__(self, heads: int, dim: int, attend: Attention, heads_first: bool) -> None:
        """`attend` takes query, key and value [batch, *layout, heads, dim], or [batch, heads, tokens, dim]."""
        super().__init__()
        channels = heads * dim
        self.heads, self.attend, self.heads_first = heads, attend, heads_first
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.proj(self.attended(self.norm1(tokens)))
        return tokens + self.mlp(self.norm2(tokens))

    def attended(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # views of one projection
        if self.heads_first:
            query, key, value = (x.flatten(1, -3).transpose(1, 2) for x in (query, key, value))
            return self.attend(query, key, value).transpose(1, 2).reshape(tokens.shape)
        return self.attend(query, key, value).flatten(-2)


class Training:
    """A block, its optimizer and a batch: the same parameters and numbers for every attention of a problem."""

    def __init__(self, peer: Peer, problem: Problem, device: str, compiled: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (problem.batch, *problem.layout, problem.heads * problem.dim)
        self.tokens, self.target = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
        self.tokens.requires_grad_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            block = Block(problem.heads, problem.dim, peer.prepare(problem, device), peer.heads_first)
        self.block = block.to(device)
        self.optimizer = torch.optim.SGD(self.block.parameters(), LEARNING_RATE)
        self.run = torch.compile(self.block, fullgraph=True, dynamic=False) if compiled else self.block
        dtype = DTYPES[problem.dtype]
        self.autocast = torch.autocast(torch.device(device).type, dtype, enabled=dtype is not torch.float32)

    def gradients(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The loss, and its gradients with respect to parameters and input."""
        self.forget_gradients()
        with self.autocast:
            output = self.run(self.tokens)
        loss = mse_loss(output, self.target)
        loss.backward()
        return loss.detach(), [x.grad for x in (*self.block.parameters(), self.tokens)]

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad()
        self.tokens.grad = None

    def step(self) -> torch.Tensor:
        loss, _ = self.gradients()
        self.optimizer.step()
        return loss


Reference = list[torch.Tensor]  # loss and gradients


def relative_error(found: Reference, expected: Reference) -> float:
    """The largest of loss and gradients; NaN is the worst."""
    errors = [float((x - y).norm() / y.norm()) for x, y in zip(found, expected, strict=True)]
    return max(errors, key=lambda error: (error != error, error))


def first_step(training: Training) -> Reference:
    loss, gradients = training.gradients()
    return [loss, *(x.clone() for x in gradients)]


def measure_step(
    peer: Peer, problem: Problem, mode: str, expected: Callable[[], Reference], seconds: float, device: str
) -> Result:
    """Raises what the peer raises, and ValueError where its gradients are not the expected ones."""
    training = Training(peer, problem, device, compiled=mode == "compiled")
    found = first_step(training)
    result: Result = {"loss": found[0].item()}
    if not peer.dense:
        error = relative_error(found, expected())
        if not error <= MOST_ERROR[problem.dtype]:
            raise ValueError(f"differs from vicinal by {error:.1e}")
        result["relative_error"] = error
    del found
    for _ in range(WARM_UP_STEPS):
        training.step()
    memory = {} if device == "cpu" else memory_of(training, device)
    return result | asdict(measure([training.step], seconds, device)) | memory


def memory_of(training: Training, device: str) -> Result:
    """Bytes held between steps, and the most that a step holds beside them."""
    training.forget_gradients()
    gc.collect()
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    training.step()
    return {"held_bytes": held, "step_bytes": torch.cuda.max_memory_allocated(device) - held}


def reason_of(failure: BaseException) -> str:
    while failure.__cause__:  # compilers wrap what went wrong
        failure = failure.__cause__
    kind = "out of memory" if isinstance(failure, torch.OutOfMemoryError) else type(failure).__name__
    return f"{kind}: {' '.join(str(failure).split())[:300]}"


def results_of(problem: Problem, name: str, modes: tuple[str, ...], seconds: float, device: str) -> list[Result]:
    """A result for each mode: its figures, or in a few words why there are none."""

    def expected() -> Reference:
        return first_step(Training(ATTENTIONS["vicinal"], problem, device))

    results = []
    for mode in modes:
        result = {"name": problem.name, "attention": name, "mode": mode, "problem": problem.parameters}
        try:
            result |= measure_step(ATTENTIONS[name], problem, mode, expected, seconds, device)
        except Exception as failure:  # whatever it raises is its result
            result["error"] = reason_of(failure)
        torch.compiler.reset()  # frees what compiled code holds
        gc.collect()
        if device != "cpu":
            torch.cuda.empty_cache()
        results.append(result)
    return results


def table(results: list[Result], modes: tuple[str, ...]) -> str:
    """A line for each problem and attention."""
    rows: dict[tuple[str, str, str], dict[str, Result]] = {}
    for result in results:
        key = (result["name"], result["problem"]["dtype"], result["attention"])
        rows.setdefault(key, {})[result["mode"]] = result
    lines = [markdown_head(["problem", "attention", *(f"{mode}, {unit}" for mode in modes for unit in ("ms", "MiB"))])]
    for (problem, dtype, attention), row in rows.items():
        cells = [cell for mode in modes for cell in _cells(row[mode])]
        lines.append(markdown_line([f"{problem}, {dtype}", ATTENTIONS[attention].name, *cells]))
    return "\n".join(lines)


def _cells(result: Result) -> tuple[str, str]:
    if "error" in result:
        return result["error"].split(":")[0], ""
    memory = result.get("step_bytes")
    return milliseconds(result["median_seconds"]), "" if memory is None else f"{memory / 2**20:.0f}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="training", help="name or file of a suite, with the sizes [training]")
    parser.add_argument("--only", action="append", metavar="NAME", help="only problems whose name contains this")
    parser.add_argument("--dtype", choices=DTYPES, help="instead of each problem's own")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--attention",
        nargs="+",
        choices=ATTENTIONS,
        default=list(ATTENTIONS),
        metavar="NAME",
        help=" ".join(ATTENTIONS),
    )
    parser.add_argument("--no-compile", action="store_true", help="only eager steps, without torch.compile")
    parser.add_argument("--seconds", type=float, default=1.0, help="to time each kind of step for [1]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    problems = load_suite(arguments.suite, arguments.dtype)
    chosen = [p for p in problems if any(name in p.name for name in arguments.only or [""])]
    if not chosen:
        sys.exit(f"--only {' '.join(arguments.only)} matches none of {', '.join(p.name for p in problems)}")
    modes = MODES[:1] if arguments.no_compile else MODES
    record = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "vicinal": vicinal.__version__,
        **describe(arguments.device),
        "results": [],
    }
    # Peers turn this off to run a graph backward more than once; with it a compiled step holds less memory.
    with torch._functorch.config.patch(donated_buffer=True):
        for problem in chosen:
            for name in arguments.attention:
                record["results"] += results_of(problem, name, modes, arguments.seconds, arguments.device)
                if arguments.json:  # a run that is cut short leaves what it has
                    arguments.json.parent.mkdir(parents=True, exist_ok=True)
                    arguments.json.write_text(json.dumps(record, indent=1) + "\n")
                for result in record["results"][-len(modes) :]:
                    print(f"{problem.name} {name} {result['mode']}: {result.get('error') or ' '.join(_cells(result))}")
                    sys.stdout.flush()
    versions = ", ".join(f"{key} {record[key]}" for key in ("driver", "cuda", "cudnn", "torch") if record[key])
    print(f"\n{record['card']}, {versions}, {record['date']}\n\n{table(record['results'], modes)}")


if __name__ == "__main__":
    main()
