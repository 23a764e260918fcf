"""The training benchmark, as far as a CPU can tell: the same block for every attention, and what is recorded."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
import vicinal

from benchmarks import training
from benchmarks.gpu_peers import Peer
from benchmarks.problem import Problem, load_suite
from benchmarks.training import ATTENTIONS, MOST_ERROR, Training, first_step, measure_step, relative_error, table

PICTURE = Problem("picture", (6, 7), (3, 3), (1, 1), (1, 1), (False, False), batch=2, heads=2, dim=16, dtype="fp32")
VOLUME = replace(
    PICTURE, name="volume", layout=(3, 4, 5), window=(1, 3, 3), dilation=(1,) * 3, stride=(1,) * 3, causal=(False,) * 3
)


def first_step_of(name: str, problem: Problem) -> list[torch.Tensor]:
    return first_step(Training(ATTENTIONS[name], problem, "cpu"))


@pytest.mark.parametrize("problem", [PICTURE, VOLUME], ids=lambda problem: problem.name)
def test_a_full_window_gives_the_step_of_the_dense_block(problem: Problem) -> None:
    loss, *gradients = first_step_of("vicinal", problem.dense)
    dense_loss, *dense_gradients = first_step_of("sdpa", problem.dense)
    assert len(gradients) == 4 * 2 + 2 * 2 + 1  # layers, norms, input
    torch.testing.assert_close(loss, dense_loss, rtol=1e-6, atol=0)
    for gradient, expected in zip(gradients, dense_gradients, strict=True):
        assert (gradient - expected).norm() <= 1e-5 * expected.norm()


def test_other_neighborhoods_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = first_step_of("vicinal", PICTURE)
    assert relative_error(first_step_of("sdpa", PICTURE), expected) > 0.1
    narrower = Peer("narrower", False, False, lambda *_: lambda *inputs: vicinal.na2d(*inputs, (3, 2)))
    with pytest.raises(ValueError, match="differs from vicinal by"):
        measure_step(narrower, PICTURE, "eager", lambda: expected, 0.001, "cpu")


def test_steps_lower_the_loss() -> None:
    steps = Training(ATTENTIONS["vicinal"], PICTURE, "cpu")
    losses = [steps.step().item() for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_attention_is_in_low_precision_and_gradients_are_float32() -> None:
    seen = []
    attend = Peer("", False, False, lambda *_: lambda query, *others: (seen.append(query.dtype), query)[1])
    loss, *gradients = first_step(Training(attend, replace(PICTURE, dtype="bf16"), "cpu"))
    assert seen == [torch.bfloat16]
    assert {x.dtype for x in (loss, *gradients)} == {torch.float32}


def test_compiled_in_one_graph() -> None:
    problem = replace(PICTURE, dtype="bf16")
    compiled = first_step(Training(ATTENTIONS["vicinal"], problem, "cpu", compiled=True))
    assert relative_error(compiled, first_step_of("vicinal", problem)) < MOST_ERROR["bf16"]


def test_what_fails_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch, capsys) -> None:
    def without_memory(_problem: Problem, _device: str) -> None:
        raise torch.OutOfMemoryError("needs about 275 GiB")

    monkeypatch.setitem(ATTENTIONS, "cudnn", Peer("cuDNN, dense", True, True, without_memory))
    suite, record = tmp_path / "suite.json", tmp_path / "new" / "record.json"
    suite.write_text(json.dumps([{"name": problem.name, **problem.parameters} for problem in (PICTURE, VOLUME)]))
    options = ("--suite", suite, "--device", "cpu", "--no-compile", "--seconds", 0.001, "--json", record)
    monkeypatch.setattr(sys, "argv", ["training", *map(str, options), "--attention", "vicinal", "cudnn", "sdpa"])
    training.main()

    written = json.loads(record.read_text())
    assert written["card"] == "CPU"
    assert {"date", "commit", "driver", "cuda", "torch", "vicinal"} <= written.keys()
    assert [(result["name"], result["attention"], "error" in result) for result in written["results"]] == [
        (name, attention, attention == "cudnn")
        for name in ("picture", "volume")
        for attention in ("vicinal", "cudnn", "sdpa")
    ]
    assert written["results"][0]["median_seconds"] > 0
    assert written["results"][1]["error"] == "out of memory: needs about 275 GiB"
    assert "| picture, fp32 | cuDNN, dense | out of memory |  |" in capsys.readouterr().out


def test_table_has_a_line_for_each_attention() -> None:
    def result(attention: str, mode: str, **others: object) -> dict:
        return {"name": "picture", "attention": attention, "mode": mode, "problem": PICTURE.parameters, **others}

    results = [
        result("vicinal", "eager", median_seconds=0.004, step_bytes=300 << 20),
        result("vicinal", "compiled", median_seconds=0.003, step_bytes=200 << 20),
        result("flex", "eager", median_seconds=0.0101, step_bytes=310 << 20),
        result("flex", "compiled", error="RuntimeError: no kernel"),
    ]
    assert table(results, ("eager", "compiled")).splitlines() == [
        "| problem | attention | eager, ms | eager, MiB | compiled, ms | compiled, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
        "| picture, fp32 | Vicinal | 4.00 | 300 | 3.00 | 200 |",
        "| picture, fp32 | FlexAttention | 10.1 | 310 | RuntimeError |  |",
    ]


def test_the_suite_has_realistic_sizes() -> None:
    assert [(p.layout, p.window, p.heads, p.dim, p.dtype) for p in load_suite("training")] == [
        ((64, 64), (13, 13), 8, 64, "bf16"),
        ((16, 32, 32), (5, 9, 9), 8, 64, "bf16"),
    ]
