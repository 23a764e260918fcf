"""The figures of the documentation are what their scripts draw."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"


@pytest.mark.parametrize("name", ["axis", "neighborhoods", "tiles"])
def test_figure_is_up_to_date(name: str, tmp_path: Path) -> None:
    """By the number of cells of each color: coordinates and letters depend on Matplotlib's version."""

    def cells(figure: Path) -> list[tuple[int, str]]:
        paths = re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', figure.read_text())
        return [(outline.count("M"), style) for outline, style in paths]

    for script in (f"{name}.py", "drawing.py"):
        shutil.copy(FIGURES / script, tmp_path)
    subprocess.run([sys.executable, tmp_path / f"{name}.py"], check=True, timeout=120)
    assert cells(tmp_path / f"{name}.svg") == cells(FIGURES / f"{name}.svg")
