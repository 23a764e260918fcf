"""Vicinal's times and those of peers, in one table and one plot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu_peers import PEERS
from benchmarks.report import markdown_head, markdown_line

Key = tuple[str, str, str]  # problem, pass, dtype
Result = dict[str, Any]

SAME = ("layout", "window", "dilation", "stride", "causal", "batch", "heads", "dim")


def key_of(result: Result) -> Key:
    return result["name"], result["operation"], result["problem"]["dtype"]


def load_vicinal_results(paths: Iterable[Path]) -> dict[Key, Result]:
    """The results of records of `vicinal bench --json`, and of those that gpu-check.sh collects; later ones win."""
    results = {}
    for path in paths:
        record = json.loads(path.read_text())
        for benchmark in record.get("benchmarks", [record]):
            if "results" not in benchmark:
                raise ValueError(f"{path}: neither a record of `vicinal bench --json` nor of gpu-check.sh")
            results.update({key_of(result): result for result in benchmark["results"]})
    return results


class Comparison:
    """Results by problem and pass, in the order of the suite."""

    def __init__(self, peers: list[Result], vicinal: dict[Key, Result]) -> None:
        self.rows: dict[Key, dict[str, Result]] = {}
        for result in peers:
            self.rows.setdefault(key_of(result), {})[result["peer"]] = result
        self.vicinal = {key: result for key, result in vicinal.items() if key in self.rows}
        for key, ours in self.vicinal.items():
            theirs = next(iter(self.rows[key].values()))
            differing = [name for name in SAME if ours["problem"][name] != theirs["problem"][name]]
            if differing:
                raise ValueError(f"{key[0]} is another problem in the two records: {', '.join(differing)} differ")
        # Peers that could not be tried at all (not installed, say) get no column.
        self.peers = [
            name for name in PEERS if any(name in row for row in self.rows.values()) and self._was_tried(name)
        ]

    def _was_tried(self, peer: str) -> bool:
        return any(row[peer].get("error") != "not installed" for row in self.rows.values() if peer in row)

    def seconds(self, key: Key, name: str) -> float | None:
        """Of a peer, or of "vicinal"; None where there is no time."""
        result = self.vicinal.get(key) if name == "vicinal" else self.rows[key].get(name)
        return None if result is None else result.get("median_seconds")

    def best_peer(self, key: Key) -> str | None:
        times = {name: seconds for name in self.peers if (seconds := self.seconds(key, name))}
        return min(times, key=times.__getitem__) if times else None

    def table(self) -> str:
        head = ["problem", "pass", "Vicinal", *(PEERS[name].name for name in self.peers), "quickest peer / Vicinal"]
        lines = [markdown_head(head)]
        for key in self.rows:
            ours, best = self.seconds(key, "vicinal"), self.best_peer(key)
            ratio = f"{self.seconds(key, best) / ours:#.2g}" if ours and best else ""
            peers = [self._cell(key, name) for name in self.peers]
            lines.append(markdown_line([f"{key[0]}, {key[2]}", key[1], self._cell(key, "vicinal"), *peers, ratio]))
        return "\n".join(lines)

    def _cell(self, key: Key, name: str) -> str:
        seconds = self.seconds(key, name)
        if seconds:
            return milliseconds(seconds)
        error = self.rows[key].get(name, {}).get("error", "")
        return error.split(":")[0]


def milliseconds(seconds: float) -> str:
    """Three digits, or all of those before the point."""
    number = 1e3 * seconds
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"


def draw(comparison: Comparison, title: str, path: Path) -> None:
    """Bars on a logarithmic axis: a panel for each pass, a group for each problem."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    operations = list(dict.fromkeys(key[1] for key in comparison.rows))
    problems = list(dict.fromkeys((key[0], key[2]) for key in comparison.rows))
    every = {"vicinal": "Vicinal", **{name: PEERS[name].name for name in comparison.peers}}
    names = {n: label for n, label in every.items() if any(comparison.seconds(key, n) for key in comparison.rows)}
    figure, panels = plt.subplots(
        1, len(operations), sharey=True, squeeze=False, layout="constrained",
        figsize=(1.5 + 4.5 * len(operations), 1.2 + 0.16 * len(problems) * (len(names) + 1)),
    )  # fmt: skip
    height = 0.85 / max(len(names), 1)
    for panel, operation in zip(panels[0], operations, strict=True):
        for place, (name, label) in enumerate(names.items()):
            bars = []
            for row, (problem, dtype) in enumerate(problems):
                key = (problem, operation, dtype)
                seconds = comparison.seconds(key, name) if key in comparison.rows else None
                if seconds:
                    bars.append((row + (place - (len(names) - 1) / 2) * height, seconds))
            panel.barh([y for y, _ in bars], [1e3 * s for _, s in bars], height, label=label, color=f"C{place}")
            for y, seconds in bars:
                panel.text(1.08e3 * seconds, y, milliseconds(seconds), va="center", fontsize=6)
        panel.set(title=operation, xscale="log")
        panel.margins(x=0.15, y=0.01)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_yticks(range(len(problems)), [f"{problem}\n{dtype}" for problem, dtype in problems], fontsize=8)
    panels[0][0].invert_yaxis()
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
