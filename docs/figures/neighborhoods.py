"""Draws neighborhoods.svg: what one query attends to on a 12 x 12 grid."""

import numpy as np
from drawing import KEY, QUERY, QUERY_GROUP, attended, draw_cells, prepare, save
from matplotlib import pyplot as plt

EXTENT = 12

# Title, query, parameters.
PANELS = [
    ("window 5 x 5", (5, 5), {"window": 5}),
    ("pushed inward at an edge", (6, 0), {"window": 5}),
    ("and in a corner", (11, 11), {"window": 5}),
    ("dilation 2 x 2", (5, 5), {"window": 5, "dilation": 2}),
    ("stride 3 x 3: nine share a window", (5, 5), {"window": 5, "stride": 3}),
    ("causal along the first axis", (5, 5), {"window": 5, "is_causal": (True, False)}),
]


def main() -> None:
    figure, grid = plt.subplots(2, 3, figsize=(8, 5.8), layout="constrained")
    for axes, (title, query, parameters) in zip(grid.flat, PANELS, strict=True):
        sees = attended((EXTENT, EXTENT), **parameters)
        mine = sees[query[0] * EXTENT + query[1]]
        keys = {tuple(divmod(token, EXTENT)) for token in np.flatnonzero(mine)}
        same_window = {tuple(divmod(token, EXTENT)) for token in np.flatnonzero((sees == mine).all(axis=1))}
        group = same_window - {query} if "stride" in parameters else set()

        prepare(axes, EXTENT, EXTENT, title)
        draw_cells(axes, keys - group - {query}, KEY)
        draw_cells(axes, group, QUERY_GROUP)
        draw_cells(axes, [query], QUERY)
    save(figure, __file__)


if __name__ == "__main__":
    main()
