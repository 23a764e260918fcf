"""The denoising example on a small picture."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from skimage.io import imread

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "denoise.py"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, timeout=120)


def test_denoises_as_well_as_scikit_image_and_writes_the_picture(tmp_path: Path) -> None:
    picture = tmp_path / "folder" / "denoised.png"
    result = run("--size", "80", "--window", "15", "--patch", "5", "--output", str(picture))
    assert result.returncode == 0, result.stderr

    gains = {
        name.strip(): float(gain)
        for name, gain in re.findall(r"^(.+?)\s+\d+\.\d+ dB\s+([+-]\d+\.\d+) dB", result.stdout, re.M)
    }
    assert gains["vicinal"] > 7
    assert gains["vicinal"] > gains["scikit-image, classic"] - 0.2
    height, width, _ = imread(picture).shape
    assert height > 500
    assert width > height


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(["--patch", "4"], "--patch is 4"), (["--size", "600"], "--size is 600")]
)
def test_rejects_bad_options_by_name(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROGRAM.parent)
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module("denoise").main(arguments)
    assert complaint in capsys.readouterr().err
