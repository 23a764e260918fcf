"""The peers of the GPU benchmark, as far as a CPU can tell: their masks, how results are joined, the plot."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import vicinal
from torch.nn.attention.flex_attention import create_mask, flex_attention

from benchmarks import comparison, gpu_peers, peers
from benchmarks.gpu_peers import PEERS, Peer, block_mask, error_of
from benchmarks.problem import Problem, attends, load_suite, random_tensors

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

from reference import axis_neighbors


def random_problem(seed: int) -> Problem:
    """Of up to a few hundred tokens."""
    choose = random.Random(seed)
    layout, window, dilation, stride, causal = [], [], [], [], []
    for _ in range(choose.randint(1, 3)):
        layout.append(choose.randint(1, 9))
        dilation.append(choose.randint(1, min(layout[-1], 3)))
        window.append(choose.randint(1, layout[-1] // dilation[-1]))
        stride.append(choose.randint(1, window[-1]))
        causal.append(choose.random() < 0.3)
    axes = map(tuple, (layout, window, dilation, stride, causal))
    return Problem("random", *axes, batch=2, heads=2, dim=16, dtype="fp32")


SMALL = Problem("small", (6, 9), (3, 4), (2, 1), (1, 2), (False, True), batch=2, heads=2, dim=16, dtype="fp32")


def dense_mask(problem: Problem) -> torch.Tensor:
    """[tokens, tokens], by the definition."""
    mask = torch.ones(1, 1, dtype=torch.uint8)
    for axis in problem.axes:
        sees = torch.zeros(axis.extent, axis.extent, dtype=torch.uint8)
        for i in range(axis.extent):
            sees[i, axis_neighbors(i, *axis)] = 1
        mask = torch.kron(mask, sees)
    return mask.bool()


@pytest.mark.parametrize("seed", range(60))
def test_mask_is_the_neighborhood(seed: int) -> None:
    problem = random_problem(seed)
    tokens = torch.arange(problem.tokens)
    assert torch.equal(attends(problem.axes, tokens[:, None], tokens[None, :]), dense_mask(problem))


@pytest.mark.parametrize("seed", range(4))
def test_block_mask_holds_the_same_function(seed: int) -> None:
    problem = random_problem(seed)
    mask = block_mask(problem, "cpu")
    found = create_mask(mask.mask_mod, 1, 1, problem.tokens, problem.tokens, device="cpu")
    assert torch.equal(found[0, 0], dense_mask(problem))


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
def test_flex_attention_agrees_with_vicinal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_peers, "_compiled_flex_attention", flex_attention)
    prepared = PEERS["flex"].prepare(SMALL, "cpu")

    def attend(*inputs: torch.Tensor) -> torch.Tensor:
        return prepared(*(x.detach() for x in inputs))  # on a CPU it refuses what needs gradients

    assert error_of(PEERS["flex"], attend, SMALL, random_tensors(SMALL), backward=False) < 1e-5


def test_suite_gives_every_parameter() -> None:
    strided = next(problem for problem in load_suite("headline") if problem.name == "3d_hunyuan_s")
    assert (strided.stride, strided.dilation, strided.dtype) == ((16, 8, 8), (1, 1, 1), "fp16")
    dilated = next(problem for problem in load_suite("headline", "bf16") if problem.name == "2d_dinat_s1_d8")
    assert (dilated.dilation, dilated.batch, dilated.dtype) == ((8, 8), 128, "bf16")


def suite_file(folder: Path, *problems: Problem) -> Path:
    path = folder / "suite.json"
    path.write_text(json.dumps([{"name": problem.name, **problem.parameters} for problem in problems]))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", *map(str, arguments)])
    peers.main()


def test_natten_is_measured_once_it_agrees(tmp_path, monkeypatch, capsys) -> None:
    stands_in = ModuleType("natten.functional")
    stands_in.na2d = vicinal.na2d
    monkeypatch.setitem(sys.modules, "natten.functional", stands_in)
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: name)
    suite, record = suite_file(tmp_path, SMALL), tmp_path / "record.json"
    options = ("--suite", suite, "--device", "cpu", "--peers", "natten", "--seconds", 0.001, "--json", record)
    run(monkeypatch, *options)
    results = json.loads(record.read_text())["results"]
    assert [result["operation"] for result in results] == ["forward", "backward"]
    assert all(result["median_seconds"] > 0 for result in results)

    stands_in.na2d = lambda *inputs, **parameters: vicinal.na2d(*inputs, **(parameters | {"dilation": 1}))
    run(monkeypatch, *options)
    results = json.loads(record.read_text())["results"]
    assert all(result["error"].startswith("ValueError: differs from vicinal by") for result in results)


def test_what_fails_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch, capsys) -> None:
    def without_memory(_problem: Problem, _device: str) -> None:
        raise torch.OutOfMemoryError("needs about 275 GiB")

    monkeypatch.setitem(PEERS, "cudnn", Peer("cuDNN, dense", True, True, without_memory))
    record = tmp_path / "record.json"
    options = ("--device", "cpu", "--seconds", 0.001, "--json", record, "--forward")
    run(monkeypatch, "--suite", suite_file(tmp_path, SMALL), *options, "--peers", "cudnn", "math", "natten")
    errors = {result["peer"]: result.get("error") for result in json.loads(record.read_text())["results"]}
    assert errors == {"cudnn": "out of memory: needs about 275 GiB", "math": None, "natten": "not installed"}
    assert "| small, fp32 | forward |  | out of memory |" in capsys.readouterr().out


def test_dense_attention_is_measured_once_for_all_windows(tmp_path, monkeypatch, capsys) -> None:
    other = replace(SMALL, name="other", window=(2, 2))
    record = tmp_path / "record.json"
    options = ("--device", "cpu", "--seconds", 0.001, "--json", record, "--forward", "--peers", "math")
    run(monkeypatch, "--suite", suite_file(tmp_path, SMALL, other), *options)
    first, second = json.loads(record.read_text())["results"]
    assert first["median_seconds"] == second["median_seconds"]
    assert (second["name"], second["problem"]["window"]) == ("other", [2, 2])


def test_runs_follow_each_other(tmp_path, monkeypatch, capsys) -> None:
    records = [tmp_path / "a.json", tmp_path / "b.json"]
    first, second = (("--device", "cpu", "--seconds", 0.001, "--peers", "math", "--json", record) for record in records)
    suite = suite_file(tmp_path, SMALL)
    run(monkeypatch, "--suite", suite, *first, "--then", "--suite", suite, *second, "--forward")
    found = [json.loads(record.read_text())["results"] for record in records]
    assert [[result["operation"] for result in results] for results in found] == [["forward", "backward"], ["forward"]]


def test_budget_ends_the_run(tmp_path, monkeypatch, capsys) -> None:
    record = tmp_path / "record.json"
    options = ("--device", "cpu", "--json", record, "--peers", "math", "--budget", 1e-9)
    run(monkeypatch, "--suite", suite_file(tmp_path, SMALL), *options)
    assert [result["error"] for result in json.loads(record.read_text())["results"]] == ["no time left"] * 2


def result_of(problem: Problem, operation: str = "forward", **others: object) -> dict:
    return {"name": problem.name, "operation": operation, "problem": problem.parameters, **others}


def write_vicinal_record(path: Path, *results: dict, collected: bool = False) -> Path:
    record = {"results": list(results)}
    path.write_text(json.dumps({"benchmarks": [record]} if collected else record))
    return path


def test_records_are_joined(tmp_path) -> None:
    older = write_vicinal_record(tmp_path / "a.json", result_of(SMALL, median_seconds=9), collected=True)
    newer = write_vicinal_record(tmp_path / "b.json", result_of(SMALL, median_seconds=0.004))
    theirs = [
        result_of(SMALL, peer="flash", median_seconds=0.012),
        result_of(SMALL, peer="flex", median_seconds=0.0101),
        result_of(SMALL, peer="natten", error="not installed"),
        result_of(SMALL, "backward", peer="flash", error="RuntimeError: no kernel"),
    ]
    joined = comparison.Comparison(theirs, comparison.load_vicinal_results([older, newer]))
    assert joined.table().splitlines() == [
        "| problem | pass | Vicinal | FlashAttention-2, dense | FlexAttention | quickest peer / Vicinal |",
        "| --- | --- | --- | --- | --- | --- |",
        "| small, fp32 | forward | 4.00 | 12.0 | 10.1 | 2.5 |",
        "| small, fp32 | backward |  | RuntimeError |  |  |",
    ]


def test_records_of_other_problems_are_refused(tmp_path) -> None:
    other = replace(SMALL, window=(2, 2), dilation=(1, 1))
    ours = write_vicinal_record(tmp_path / "a.json", result_of(other, median_seconds=1))
    with pytest.raises(ValueError, match="small is another problem in the two records: window, dilation differ"):
        comparison.Comparison([result_of(SMALL, peer="flex")], comparison.load_vicinal_results([ours]))
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(ValueError, match=r"c\.json: neither a record of `vicinal bench --json`"):
        comparison.load_vicinal_results([tmp_path / "c.json"])


def test_plot_is_a_png(tmp_path, monkeypatch, capsys) -> None:
    theirs = [
        result_of(SMALL, operation, peer=peer, **taken)
        for operation in ("forward", "backward")
        for peer, taken in (("flash", {"median_seconds": 0.01}), ("flex", {"error": "out of memory"}))
    ]
    known = tmp_path / "peers.json"
    known.write_text(
        json.dumps({"card": "A card", "driver": "1", "cuda": "13", "cudnn": "9", "torch": "2", "date": "today"}
                   | {"results": theirs})
    )  # fmt: skip
    ours = write_vicinal_record(tmp_path / "a.json", result_of(SMALL, median_seconds=0.004))
    run(monkeypatch, "--from", known, "--record", ours, "--plot", tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "| small, fp32 | forward | 4.00 | 10.0 | out of memory | 2.5 |" in capsys.readouterr().out
