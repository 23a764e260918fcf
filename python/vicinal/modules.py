"""PyTorch modules: multi-head self-attention in which every token attends to its neighborhood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import nn

from vicinal.functional import na1d, na2d, na3d

__all__ = ["NeighborhoodAttention1D", "NeighborhoodAttention2D", "NeighborhoodAttention3D"]


class _NeighborhoodAttention(nn.Module):
    """Self-attention on tokens [batch, *layout, embed_dim]; see the subclasses."""

    rank: ClassVar[int]
    _attend: ClassVar[Callable[..., torch.Tensor]]

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        is_causal: bool | Sequence[bool] = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads != 0:
            raise ValueError(f"num_heads = {num_heads}; allowed: a divisor of embed_dim = {embed_dim}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.is_causal = is_causal
        self.scale = qk_scale
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != self.rank + 2:
            raise ValueError(
                f"tokens has {tokens.ndim} dimensions; allowed: {self.rank + 2}, "
                f"[batch, {', '.join('XYZ'[: self.rank])}, embed_dim]"
            )
        heads = (3, self.num_heads, self.embed_dim // self.num_heads)
        query, key, value = self.qkv(tokens).unflatten(-1, heads).unbind(-3)  # views of the one projection
        attended = self._attend(
            query, key, value, self.kernel_size, self.stride, self.dilation, self.is_causal, self.scale
        )
        return self.proj_drop(self.proj(attended.flatten(-2)))

    def extra_repr(self) -> str:
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, dilation={self.dilation}, is_causal={self.is_causal}"
        )


_ARGUMENTS = """
    One linear layer projects the tokens to queries, keys and values, which attention reads in place; another projects
    what it gives. The parameters are called qkv and proj, laid out as NATTEN's are.

    Args:
        embed_dim: channels of a token.
        num_heads: a divisor of embed_dim.
        kernel_size, stride, dilation, is_causal: as in `vicinal.neighborhood_attention_generic`.
        qkv_bias: whether the first projection has a bias.
        qk_scale: factor of the dot products; (embed_dim / num_heads) ** -0.5 when None.
        proj_drop: probability of dropout after the second projection.
"""


class NeighborhoodAttention1D(_NeighborhoodAttention):
    __doc__ = f"Neighborhood self-attention on a sequence, [batch, X, embed_dim] to the same.\n{_ARGUMENTS}"
    rank = 1
    _attend = staticmethod(na1d)


class NeighborhoodAttention2D(_NeighborhoodAttention):
    __doc__ = f"Neighborhood self-attention on a picture, [batch, X, Y, embed_dim] to the same.\n{_ARGUMENTS}"
    rank = 2
    _attend = staticmethod(na2d)


class NeighborhoodAttention3D(_NeighborhoodAttention):
    __doc__ = f"Neighborhood self-attention on a volume, [batch, X, Y, Z, embed_dim] to the same.\n{_ARGUMENTS}"
    rank = 3
    _attend = staticmethod(na3d)
