"""What `.ci/run` asks of a build's times and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """With two CUDA sources of 25 and 10 s, the second again in 1 s by ccache, one that is gone, and two links."""
    log = [
        "# ninja log v5",
        "0\t25000\t1\ta.dir/one.cu.o\tc1",
        "0\t10000\t1\ta.dir/two.cu.o\tc2",
        "0\t1000\t2\ta.dir/two.cu.o\tc2",
        "0\t99000\t1\ta.dir/gone.cu.o\tc3",
        "25000\t27000\t1\tlib.so\tc4",
        "25000\t27000\t1\tlib.so.1\tc4",
    ]
    (tmp_path / ".ninja_log").write_text("\n".join(log) + "\n")
    (tmp_path / "a.dir").mkdir()
    for made in ["a.dir/one.cu.o", "a.dir/two.cu.o", "lib.so", "lib.so.1"]:
        (tmp_path / made).touch()
    return tmp_path


def report(build: Path, *limits: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "build_report.py", build, *limits], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_limits(build: Path) -> None:
    (build / "a.dir/one.cu.o.memory").write_text("2500000000\n")
    status, printed, _ = report(build, "--limit", "25", "--memory-limit", "2.5", "--total-limit", "14")
    assert status == 0
    assert printed.splitlines() == [
        "    25.0 s     2.50 GB  one.cu",
        "     1.0 s  unmeasured  two.cu",
        "    26.0 s  2 CUDA sources, one after the other",
        "    14.0 s  the whole build, shared by 2 cores",
    ]
    assert report(build, "--limit", "24")[::2] == (1, "one.cu took 25.0 s; allowed: 24\n")
    assert report(build, "--memory-limit", "2.4")[::2] == (1, "one.cu took 2.5 GB; allowed: 2.4\n")
    assert report(build, "--total-limit", "13")[::2] == (1, "the whole build took 14.0 s; allowed: 13\n")


def test_memory_is_recorded_beside_the_object(tmp_path: Path) -> None:
    made = tmp_path / "a.o"
    record = tmp_path / "a.o.memory"
    compiler = "import sys; memory = b'x' * (3 * 10**8); open(sys.argv[2], 'w')"
    command = [SCRIPTS / "record_memory.py", sys.executable, "-c", compiler, "-o", made]
    subprocess.run(command, check=True)
    assert made.exists()
    assert 3e8 <= int(record.read_text()) < 2e9
    record.unlink()
    command[3] = "raise SystemExit(3)"
    assert subprocess.run(command, check=False).returncode == 3
    assert not record.exists()
