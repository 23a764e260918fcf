"""The command line program, run as a person would: VICINAL_CLI names it, or it lies beside this Python or on PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Program = Callable[..., subprocess.CompletedProcess[str]]


def executable() -> str:
    beside = Path(sys.executable).with_name("vicinal")
    found = os.environ.get("VICINAL_CLI") or (str(beside) if beside.exists() else shutil.which("vicinal"))
    assert found, "no `vicinal` to test: build it, and set VICINAL_CLI to its path"
    return found


@pytest.fixture(scope="session")
def vicinal() -> Program:
    """Runs `vicinal` with arguments, split at spaces where they are text; paths are taken whole."""
    program = executable()

    def run(*arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        words = [w for a in arguments for w in (a.split() if isinstance(a, str) else [os.fspath(a)])]
        return subprocess.run([program, *words], capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """tests/golden/reference.py: the meaning of every parameter in NumPy."""
    path = Path(__file__).parents[1] / "golden" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    """The standard output of a run that ended well."""
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a run with bad arguments left on stderr."""
    assert result.returncode == 2, (result.returncode, result.stderr)
    assert result.stdout == ""
    assert result.stderr.startswith("vicinal: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("vicinal: ").rstrip("\n")
