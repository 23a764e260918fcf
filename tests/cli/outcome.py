"""How a run of the program ended."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Program = Callable[..., subprocess.CompletedProcess[str]]


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
