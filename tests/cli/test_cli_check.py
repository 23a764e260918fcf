"""`vicinal check`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from outcome import Program, refused, succeeded


def rows(table: str) -> dict[str, list[str]]:
    """Cells of each row of a printed table by its first cell."""
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:]}


def test_a_short_sweep_of_every_kernel(vicinal: Program) -> None:
    result = vicinal("check --cases 3 --seed 5 --size 0.05")
    table = rows(succeeded(result))
    assert {"reference_forward", "reference_backward"} <= set(table)
    for passed, failed, refused_count, _worst in table.values():
        assert int(passed) + int(refused_count) == 3
        assert failed == "0"
    assert result.stderr == ""  # the progress bar is for terminals


def test_the_same_seed_gives_the_same_result(vicinal: Program) -> None:
    runs = [vicinal(f"check --cases 2 --size 0.05 --kernel reference_forward --seed {seed}") for seed in (1, 1, 2)]
    first, again, other = (succeeded(run) for run in runs)
    assert first == again
    assert first != other


def test_one_problem(vicinal: Program) -> None:
    output = succeeded(
        vicinal("check --layout 9x8 --window 3 --dilation 2 --causal 1,0 --heads 2 --dim 8 --dtype bf16")
    )
    assert rows(output)["reference_forward"][:3] == ["1", "0", "0"]


def test_one_case_of_a_sweep(vicinal: Program) -> None:
    output = succeeded(vicinal("check --seed 5 --case 1 --size 0.05 --backend reference"))
    assert sum(int(cell) for cells in rows(output).values() for cell in cells[:3]) == 2


def test_a_failed_check(vicinal: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle with a wrong exponential: the kernel differs from it, whoever is right."""
    compiler = shutil.which("c++")
    assert compiler is not None, "c++ built the program, so it is there"
    source, library = tmp_path / "wrong.cpp", tmp_path / "wrong.so"
    source.write_text('extern "C" double exp(double x) noexcept { return x > -1 ? 1.0 : 0.5; }\n')
    subprocess.run([compiler, "-shared", "-fPIC", "-fno-builtin", source, "-o", library], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    result = vicinal("check --layout 9x8 --window 3 --dim 8 --kernel fused_cpu_forward")
    assert result.returncode == 1
    assert rows(result.stdout[result.stdout.index("kernel  ") :])["fused_cpu_forward"][:3] == ["0", "1", "0"]
    assert "reproduce: vicinal check --layout 9x8 --window 3x3" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--kernel warp", "no kernel with name 'warp'"),
        ("--backend warp", "backend 'warp' on cpu"),
        ("--cases 0", "--cases"),
        ("--cases 3 --layout 8 --window 3", "--cases"),
        ("--layout 8", "window is missing"),
        ("--heads 2", "--layout"),
        ("--layout 8 --window 9", "window[0] = 9"),
    ],
)
def test_bad_arguments(vicinal: Program, arguments: str, message: str) -> None:
    assert message in refused(vicinal("check", arguments))
