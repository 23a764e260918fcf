"""`vicinal bench`, its records and its suites."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome import Program, refused, succeeded

SUITES = Path(__file__).parents[2] / "benchmarks" / "suites"
QUICK = "--seconds 0 --repetitions 2"


def write_suite(folder: Path, *entries: dict) -> Path:
    path = folder / "suite.json"
    path.write_text(json.dumps(entries))
    return path


def test_a_problem(vicinal: Program) -> None:
    lines = succeeded(vicinal("bench", QUICK, "--layout 8x8 --window 3 --dim 8")).splitlines()
    assert "roofline" in lines[0]
    assert lines[1].split()[:5] == ["problem", "operation", "kernel", "median", "TFLOP/s"]
    assert [line.split()[:3] for line in lines[2:]] == [
        ["8x8", "w3x3", "forward"],
        ["8x8", "w3x3", "backward"],
    ]


def test_rounds(vicinal: Program, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    problem = "--layout 8x8 --window 3 --dim 8"
    lines = succeeded(vicinal("bench --rounds 3", QUICK, problem, "--json", record)).splitlines()[2:]
    assert [line.split()[-1] for line in lines] == ["6", "6"]
    assert [result["repetitions"] for result in json.loads(record.read_text())["results"]] == [6, 6]
    assert "rounds" in refused(vicinal("bench --rounds 0", problem))


def test_unfused_operations(vicinal: Program) -> None:
    names = ("pointwise_neighborhood", "neighborhood_neighborhood", "inverse_neighborhood", "bias_gradient")
    chosen = " ".join(f"--operation {name}" for name in names)
    problem = "--layout 8x8 --window 3 --dim 8 --extra-kv 2 --dtype fp16"
    lines = succeeded(vicinal("bench", QUICK, problem, chosen)).splitlines()[2:]
    assert [line.split()[2] for line in lines] == list(names)


def test_a_suite_and_its_record(vicinal: Program, tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path,
        {"name": "small", "layout": [6, 6], "window": 3, "heads": 2, "dim": 8, "dtype": "bf16", "h100_ms": {"x": 1}},
        {"name": "long", "layout": 32, "window": 5, "stride": 2, "causal": 1, "dim": 8, "alignment": 8},
    )
    record = tmp_path / "record.json"
    succeeded(vicinal("bench --cold --threads 1", QUICK, "--suite", suite, "--json", record))
    content = json.loads(record.read_text())
    assert [(r["name"], r["operation"]) for r in content["results"]] == [
        ("small", "forward"), ("small", "backward"), ("long", "forward"), ("long", "backward")
    ]  # fmt: skip
    assert [r["problem"].get("alignment") for r in content["results"]] == [None, None, 8, 8]
    for fact in ("cpu", "commit", "date", "compiler", "vicinal", "cpu_target"):
        assert content[fact]
    assert content["threads"] == 1
    assert content["cold"] is True
    for result in content["results"]:
        assert result["repetitions"] == 2
        assert 0 < result["fastest_seconds"] <= result["median_seconds"]
        # 36 queries of 9 keys, or 32 queries of causal windows, each pair at least dim + dim_v multiply-adds a head.
        assert result["needed_multiply_adds"] > 0
        flops = 2 * result["needed_multiply_adds"] / result["median_seconds"]
        assert result["tflops"] == pytest.approx(1e-12 * flops)
        assert result["fraction_of_roofline"] > 0
    assert content["results"][0]["needed_multiply_adds"] == 2 * 36 * 9 * (8 + 8)

    (only,) = succeeded(vicinal("bench --forward --only lon", QUICK, "--suite", suite)).splitlines()[2:]
    assert only.startswith("long")
    both = succeeded(vicinal("bench --forward --only lon --only mal", QUICK, "--suite", suite)).splitlines()[2:]
    assert [line.split()[0] for line in both] == ["small", "long"]


def test_compare(vicinal: Program, tmp_path: Path) -> None:
    problem = {"layout": [8]}

    def record(name: str, seconds: float, extra: list[dict]) -> Path:
        result = {"name": "a", "operation": "forward", "problem": problem, "median_seconds": seconds}
        path = tmp_path / name
        path.write_text(json.dumps({"results": [result, *extra]}))
        return path

    other = {"name": "b", "operation": "forward", "problem": problem, "median_seconds": 1.0}
    old, new = record("old.json", 3e-3, []), record("new.json", 2e-3, [other])
    lines = succeeded(vicinal("bench compare", old, new)).splitlines()
    assert lines[1].split() == ["a", "forward", "3.00", "ms", "2.00", "ms", "1.50"]
    assert len(lines) == 2

    (tmp_path / "empty.json").write_text('{"results": []}')
    assert "share no result" in refused(vicinal("bench compare", old, tmp_path / "empty.json"))
    (tmp_path / "list.json").write_text("[]")
    assert "not a record" in refused(vicinal("bench compare", old, tmp_path / "list.json"))


@pytest.mark.parametrize(
    "name", ["cpu", "dense", "headline", "partial", "partial_3d", "ragged", "small_problems", "small_windows"]
)
def test_the_suites_of_the_project_are_valid(vicinal: Program, name: str) -> None:
    message = refused(vicinal("bench --only nothing-is-called-so --suite", SUITES / f"{name}.json"))
    assert "matches no problem" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "parse error"),
        ('{"name": "x"}', "must be a list of problems"),
        ('[{"layout": 8, "window": 3}]', "entry 0: "),
        ('[{"name": "x", "layout": 8, "window": 9}]', "entry 0: window[0] = 9"),
        ('[{"name": "x", "layout": 8, "window": 3, "colour": 1}]', "entry 0: 'colour' is not a key of a problem"),
        ('[{"name": "x", "layout": "8x8", "window": 3}]', "entry 0: "),
    ],
)
def test_broken_suites(vicinal: Program, tmp_path: Path, content: str, message: str) -> None:
    suite = tmp_path / "suite.json"
    suite.write_text(content)
    assert message in refused(vicinal("bench --suite", suite))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "layout is missing"),
        ("--only x --layout 8 --window 3", "--suite"),
        ("--suite nowhere.json", "nowhere.json"),
        ("--layout 8 --window 3 --repetitions 0", "--repetitions"),
        ("--layout 8 --window 3 --threads 0", "--threads"),
        ("compare", "old is required"),
        (f"--heads 3 --suite {SUITES}/cpu.json", "--suite"),
    ],
)
def test_bad_arguments(vicinal: Program, arguments: str, message: str) -> None:
    assert message in refused(vicinal("bench", arguments))


def test_a_record_that_cannot_be_written(vicinal: Program, tmp_path: Path) -> None:
    result = vicinal("bench --layout 8 --window 3 --forward", QUICK, "--json", tmp_path / "nowhere" / "record.json")
    assert result.returncode == 3
    assert "record.json: cannot be written" in result.stderr
