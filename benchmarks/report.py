"""What all reports share: where the code stands, and lines of Markdown."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def commit() -> str:
    """Of the sources. VICINAL_COMMIT in the environment goes before git, for sources without their history."""
    if stated := os.environ.get("VICINAL_COMMIT"):
        return stated
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return "unknown"
    return result.stdout.strip() or "unknown"


def markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown_head(cells: Sequence[str]) -> str:
    return f"{markdown_line(cells)}\n{markdown_line(['---'] * len(cells))}"
