"""Draws tiles.svg: the tiles of keys that a tile of queries visits, and how many of their slots it needed."""

from itertools import product

import numpy as np
from drawing import KEY, KEY_PARTIAL, QUERY, attended, draw_frame, prepare, save
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

EXTENT = 20
WINDOW = 11
TILE = 4  # query tiles and key tiles are TILE x TILE


Span = tuple[int, int]  # first, last + 1


def tokens(rows: Span, columns: Span) -> list[int]:
    return [row * EXTENT + column for row in range(*rows) for column in range(*columns)]


def tiles_over(halo: Span, anchored: bool) -> list[Span]:
    """The key tiles along one axis: from the first key of the halo, or on a grid that knows nothing of it."""
    first = halo[0] if anchored else halo[0] // TILE * TILE
    end = halo[1] if anchored else EXTENT
    return [(start, min(start + TILE, end)) for start in range(first, halo[1], TILE)]


def draw_panel(axes: Axes, title: str, sees: np.ndarray, corner: int, anchored: bool) -> None:
    side = (corner, corner + TILE)
    wanted = sees[tokens(side, side)]
    keys = np.flatnonzero(wanted.any(axis=0)) // EXTENT
    halo = (keys.min(), keys.max() + 1)
    tiles = list(product(tiles_over(halo, anchored), repeat=2))

    ratio = len(tiles) * TILE**4 / wanted.sum()
    prepare(axes, EXTENT, EXTENT, f"{title}\n{len(tiles)} tiles, visited / needed {ratio:.2f}")
    for rows, columns in tiles:
        inside = wanted[:, tokens(rows, columns)].all()
        draw_frame(axes, rows, columns, fill=True, facecolor=KEY if inside else KEY_PARTIAL)
    draw_frame(axes, halo, halo, linestyle="--", linewidth=2)
    draw_frame(axes, side, side, edgecolor=QUERY, linewidth=2.5)


def main() -> None:
    sees = attended((EXTENT, EXTENT), WINDOW)
    figure, (fixed, anchored, corner) = plt.subplots(1, 3, figsize=(9.4, 3.7), layout="constrained")
    draw_panel(fixed, "key tiles on a fixed grid", sees, 8, anchored=False)
    draw_panel(anchored, "key tiles from the corner of the halo", sees, 8, anchored=True)
    draw_panel(corner, "in a corner of the grid", sees, 0, anchored=True)
    save(figure, __file__)


if __name__ == "__main__":
    main()
