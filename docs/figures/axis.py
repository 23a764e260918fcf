"""Draws axis.svg: along one axis of 16 tokens, the keys (columns) that each query (row) attends to."""

import numpy as np
from drawing import KEY, QUERY, attended, draw_cells, prepare, save
from matplotlib import pyplot as plt

EXTENT = 16

PANELS = [
    ("window 5", {"window": 5}),
    ("window 4 (even)", {"window": 4}),
    ("window 4, dilation 3", {"window": 4, "dilation": 3}),
    ("window 6, stride 3", {"window": 6, "stride": 3}),
    ("window 4, stride 4: blocks", {"window": 4, "stride": 4}),
    ("window 5, causal", {"window": 5, "is_causal": True}),
    ("window 4, dilation 3, causal", {"window": 4, "dilation": 3, "is_causal": True}),
    ("window 6, stride 3, causal", {"window": 6, "stride": 3, "is_causal": True}),
]


def main() -> None:
    figure, grid = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
    for axes, (title, parameters) in zip(grid.flat, PANELS, strict=True):
        pairs = np.argwhere(attended((EXTENT,), **parameters))
        prepare(axes, EXTENT, EXTENT, title)
        draw_cells(axes, [(query, key) for query, key in pairs if query != key], KEY)
        draw_cells(axes, [(query, key) for query, key in pairs if query == key], QUERY)
    save(figure, __file__)


if __name__ == "__main__":
    main()
