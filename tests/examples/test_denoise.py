"""The denoising example on a small picture."""

import re
import subprocess
import sys
from pathlib import Path

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


def test_rejects_bad_options_by_name() -> None:
    result = run("--patch", "4")
    assert result.returncode == 2
    assert "--patch is 4" in result.stderr

    result = run("--size", "600")
    assert result.returncode == 2
    assert "--size is 600" in result.stderr
