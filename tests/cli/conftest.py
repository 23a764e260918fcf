"""The command line program, run as a person would: VICINAL_CLI names it, or it lies beside this Python or on PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from outcome import Program


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
