"""What the figures share: which keys a query attends to, cells of a token grid, colors for light and dark pages."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import vicinal
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "vicinal", "font.size": 10, "text.color": "#7d8590"})

# Saturated enough for a white page and bright enough for a black one, which the transparent background lets through.
QUERY = "#f0883e"
QUERY_GROUP = "#f0b88a"
KEY = "#4493f8"
KEY_PARTIAL = "#a5c8f8"
LINE = "#7d8590"

Cells = Iterable[tuple[float, float]]


def attended(layout: Sequence[int], window: int | Sequence[int], **parameters: object) -> np.ndarray:
    """[tokens, tokens], true where a query (row) attends to a key (column), as the library itself has it.

    With every score equal and one-hot values, the output of a query is the indicator of its keys over their number.
    """
    tokens = math.prod(layout)
    zeros = np.zeros((1, *layout, 1, 1), np.float32)
    one_hot = np.eye(tokens, dtype=np.float32).reshape(1, *layout, 1, tokens)
    operation = {1: vicinal.na1d, 2: vicinal.na2d, 3: vicinal.na3d}[len(layout)]
    return operation(zeros, zeros, one_hot, kernel_size=window, **parameters).reshape(tokens, tokens) > 0


def draw_cells(axes: Axes, cells: Cells, color: str) -> None:
    """Squares centered at (row, column), as one path, which keeps the file small."""
    half = 0.42
    square = np.array([(-half, -half), (half, -half), (half, half), (-half, half), (-half, -half)])
    codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY]
    corners = [square + np.array((column, row)) for row, column in sorted(cells)]
    if corners:
        path = Outline(np.concatenate(corners), codes * len(corners))
        axes.add_patch(PathPatch(path, facecolor=color, edgecolor="none"))


def draw_grid(axes: Axes, rows: int, columns: int) -> None:
    """Hair lines around rows x columns cells."""
    lines = [((-0.5, y), (columns - 0.5, y)) for y in np.arange(rows + 1) - 0.5]
    lines += [((x, -0.5), (x, rows - 0.5)) for x in np.arange(columns + 1) - 0.5]
    path = Outline(np.concatenate(lines), [Outline.MOVETO, Outline.LINETO] * len(lines))
    axes.add_patch(PathPatch(path, fill=False, edgecolor=LINE, linewidth=0.4, alpha=0.6))


def draw_frame(axes: Axes, rows: tuple[float, float], columns: tuple[float, float], **style: object) -> None:
    """The outline of the cells rows[0] .. rows[1] - 1 by columns[0] .. columns[1] - 1."""
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    size = (columns[1] - columns[0], rows[1] - rows[0])
    axes.add_patch(Rectangle(corner, *size, **({"fill": False, "edgecolor": LINE, "linewidth": 1.2} | style)))


def prepare(axes: Axes, rows: int, columns: int, title: str) -> None:
    """A panel with a grid of rows x columns cells, row 0 on top."""
    axes.set(xlim=(-0.7, columns - 0.3), ylim=(rows - 0.3, -0.7), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, color=LINE)
    draw_grid(axes, rows, columns)


def save(figure: Figure, script: str) -> None:
    """Writes the figure beside its script, the same bytes every time."""
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    figure.savefig(Path(script).with_suffix(".svg"), transparent=True, metadata={"Date": None})
