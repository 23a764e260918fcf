"""Neighborhood attention: softmax attention in which every token of a grid attends to its nearest neighbors.

Functions for NumPy arrays and PyTorch tensors: `na1d`, `na2d`, `na3d`, `neighborhood_attention_generic`,
`merge_attentions`; with all weights in memory, and relative positional bias: `na1d_qk`, `na2d_qk`, `na3d_qk`,
`na1d_av`, `na2d_av`, `na3d_av`; PyTorch modules: `NeighborhoodAttention1D`, `NeighborhoodAttention2D`,
`NeighborhoodAttention3D`; what would run and why: `plan`, and with which tiles: `Tiling`.

PyTorch is optional and never imported on behalf of who does not use it: the operators vicinal::attention,
vicinal::pointwise_neighborhood and so on are registered here where PyTorch was imported before, else by the first call
with a tensor.
"""

import sys
from typing import Any

from vicinal._ext import Plan, __version__
from vicinal._parameters import Tiling
from vicinal.functional import na1d, na2d, na3d, neighborhood_attention_generic
from vicinal.merging import merge_attentions
from vicinal.planning import plan
from vicinal.unfused import na1d_av, na1d_qk, na2d_av, na2d_qk, na3d_av, na3d_qk

__all__ = [
    "NeighborhoodAttention1D",
    "NeighborhoodAttention2D",
    "NeighborhoodAttention3D",
    "Plan",
    "Tiling",
    "__version__",
    "merge_attentions",
    "na1d",
    "na1d_av",
    "na1d_qk",
    "na2d",
    "na2d_av",
    "na2d_qk",
    "na3d",
    "na3d_av",
    "na3d_qk",
    "neighborhood_attention_generic",
    "plan",
]

if sys.modules.get("torch") is not None:
    from vicinal import _torch as _torch  # registers the operators
    from vicinal import _torch_unfused as _torch_unfused


def __getattr__(name: str) -> Any:
    if name.startswith("NeighborhoodAttention") and name in __all__:
        from vicinal import modules

        return getattr(modules, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
