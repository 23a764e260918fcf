"""Neighborhood attention: softmax attention in which every token of a grid attends to its nearest neighbors."""

from vicinal._ext import Plan, __version__
from vicinal.functional import na1d, na2d, na3d, neighborhood_attention_generic

__all__ = [
    "Plan",
    "__version__",
    "na1d",
    "na2d",
    "na3d",
    "neighborhood_attention_generic",
]
