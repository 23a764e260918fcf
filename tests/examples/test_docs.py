"""What the documentation shows is true: its Python runs, its C++ compiles, its commands succeed, its links lead on."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])


def code_blocks(page: Path, language: str) -> list[str]:
    """Each preceded by as many empty lines as put it where it is in the page, so that errors name the right line."""
    text = page.read_text()
    fences = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text[: fence.start(1)].count("\n") + fence[1] for fence in fences]


def pages_with(*languages: str) -> list:
    pages = [page for page in PAGES if any(code_blocks(page, language) for language in languages)]
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


@pytest.mark.parametrize("page", pages_with("python", "sh"))
def test_code_runs(page: Path, tmp_path: Path) -> None:
    """The Python blocks of a page as one program, then the command line program's commands, all in one folder."""
    program = "".join(f"exec(compile({block!r}, {str(page)!r}, 'exec'))\n" for block in code_blocks(page, "python"))
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)

    for line in "\n".join(code_blocks(page, "sh")).replace("\\\n", " ").splitlines():
        name, *arguments = shlex.split(line, comments=True) or [""]
        if name == "vicinal":
            command = [Path(sys.executable).with_name("vicinal"), *arguments]
            subprocess.run(command, cwd=tmp_path, check=True, timeout=120)


@pytest.mark.parametrize("page", pages_with("cpp"))
def test_cpp_compiles(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(code_blocks(page, "cpp")):
        source = tmp_path / f"{page.stem}{number}.cpp"
        source.write_text(block)
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        options = ["-std=c++20", "-fsyntax-only", f"-I{ROOT / 'include'}", f"-I{ROOT / 'src'}"]
        subprocess.run([*compiler, *options, str(source)], check=True, timeout=120)


def test_readme_shows_the_cpp_example_that_is_built() -> None:
    shown = [block.strip() for block in code_blocks(ROOT / "README.md", "cpp")]
    assert shown == [(ROOT / "examples/cpp/quickstart.cpp").read_text().strip()]


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    def anchors(target: Path) -> set[str]:
        titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}

    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"""(?:\]\(|src=")([^)"\s]+)""", prose):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
