"""`vicinal tilings`. What it measures needs a GPU with a kernel that chooses among tiles; its errors need none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome import Program, refused, succeeded

SUITE = Path(__file__).parents[2] / "benchmarks" / "suites" / "headline.json"


def gpus(vicinal: Program) -> list[dict]:
    return json.loads(succeeded(vicinal("info --json")))["gpus"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no problems; allowed: --suite, --random-problems or both"),
        ("--random-problems 1 --device cpu", "device = cpu; allowed: cuda, cuda:N"),
        ("--random-problems 1 --device tpu", "device = 'tpu'; allowed: cpu, cuda, cuda:N"),
        ("--random-problems 1 --device cuda:99", "device = cuda:99; this machine has"),
        ("--random-problems 1 --dtype int8", "dtype = 'int8'; allowed: fp64, fp32, fp16, bf16"),
        ("--random-problems 1 --operation bias_gradient", "--operation: bias_gradient not in {forward,backward}"),
        ("--random-problems -1", "--random-problems"),
        ("--suite nowhere.json", "nowhere.json"),
    ],
)
def test_bad_arguments(vicinal: Program, arguments: str, message: str) -> None:
    assert message in refused(vicinal("tilings", arguments))


@pytest.mark.parametrize("operation", ["forward", "backward"])
def test_without_a_gpu(vicinal: Program, operation: str) -> None:
    if gpus(vicinal):
        pytest.skip("there is a GPU")
    message = refused(vicinal("tilings --operation", operation, "--suite", SUITE))
    assert message.startswith("device = cuda:0; this machine has 0 CUDA devices")


def test_a_study_and_its_record(vicinal: Program, tmp_path: Path) -> None:
    if not any("H100" in gpu["name"] or "H200" in gpu["name"] for gpu in gpus(vicinal)):
        pytest.skip("no Hopper GPU")
    suite = tmp_path / "suite.json"
    suite.write_text(
        json.dumps(
            [
                {"name": "small", "layout": [24, 24], "window": 7, "heads": 2, "dim": 32, "dtype": "bf16"},
                {"name": "refused", "layout": [24, 24], "window": 7, "heads": 2, "dim": 264, "dtype": "fp16"},
            ]
        )
    )
    record = tmp_path / "record.json"
    text = succeeded(vicinal("tilings --best 4 --others 4 --random-problems 1 --suite", suite, "--json", record))
    assert "chosen/fastest: median" in text
    studies = json.loads(record.read_text())["studies"]
    assert [study["name"] for study in studies] == ["small", "random 0"]
    assert studies[0]["problem"]["dtype"] == "bf16"
    for study in studies:
        assert study["operation"] == "forward"
        assert study["ratio"] >= 1
        assert 1 <= len(study["tilings"]) <= 9
        assert study["ratio_at_first"] >= 1
        again = [tiling for tiling in study["tilings"] if "seconds_in_turns" in tiling]
        assert len(again) != 1
        assert len(again) <= 5
        if again:
            assert again[0] == study["tilings"][0]
            fastest = min(tiling["seconds_in_turns"] for tiling in again)
            assert study["ratio"] == pytest.approx(again[0]["seconds_in_turns"] / fastest)
        for tiling in study["tilings"]:
            assert tiling["seconds"] > 0
            assert tiling["visited_multiply_adds"] >= tiling["masked_multiply_adds"]
