"""The PyTorch modules."""

from __future__ import annotations

import pytest
import torch
import vicinal
from torch.testing import assert_close

MODULES = [
    (vicinal.NeighborhoodAttention1D, vicinal.na1d, (9,)),
    (vicinal.NeighborhoodAttention2D, vicinal.na2d, (5, 6)),
    (vicinal.NeighborhoodAttention3D, vicinal.na3d, (3, 4, 5)),
]


@pytest.mark.parametrize(("module", "function", "layout"), MODULES)
def test_module_is_projection_attention_projection(module, function, layout) -> None:
    torch.manual_seed(0)
    attention = module(12, 3, 3, stride=2, is_causal=True, qk_scale=0.5)
    tokens = torch.randn(2, *layout, 12)
    query, key, value = attention.qkv(tokens).reshape(2, *layout, 3, 3, 4).unbind(-3)
    attended = function(query, key, value, 3, stride=2, is_causal=True, scale=0.5)
    expected = attention.proj(attended.reshape(2, *layout, 12))
    assert_close(attention(tokens), expected)


def test_attention_reads_the_packed_projection_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(query, key, value, *others):
        seen.extend((query, key, value))
        return vicinal.na2d(query, key, value, *others)

    monkeypatch.setattr(vicinal.NeighborhoodAttention2D, "_attend", staticmethod(record))
    vicinal.NeighborhoodAttention2D(8, 2, 3)(torch.randn(1, 4, 5, 8)).sum().backward()
    assert len({x.untyped_storage().data_ptr() for x in seen}) == 1
    assert [x.storage_offset() for x in seen] == [0, 8, 16]


def test_parameters_have_nattens_names_and_shapes() -> None:
    state = vicinal.NeighborhoodAttention2D(8, 2, 3).state_dict()
    assert {name: tuple(x.shape) for name, x in state.items()} == {
        "qkv.weight": (24, 8),
        "qkv.bias": (24,),
        "proj.weight": (8, 8),
        "proj.bias": (8,),
    }
    assert "qkv.bias" not in vicinal.NeighborhoodAttention2D(8, 2, 3, qkv_bias=False).state_dict()


def test_dropout_acts_in_training_only() -> None:
    attention = vicinal.NeighborhoodAttention1D(8, 2, 3, proj_drop=1.0)
    tokens = torch.randn(1, 5, 8)
    assert (attention(tokens) == 0).all()
    assert (attention.eval()(tokens) != 0).any()


def test_every_parameter_gets_a_gradient() -> None:
    attention = vicinal.NeighborhoodAttention3D(8, 2, (1, 3, 3))
    attention(torch.randn(2, 2, 4, 5, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in attention.parameters())


def test_what_it_prints() -> None:
    assert "embed_dim=8, num_heads=2, kernel_size=3, stride=1, dilation=1, is_causal=False" in repr(
        vicinal.NeighborhoodAttention1D(8, 2, 3)
    )


def test_refusals() -> None:
    with pytest.raises(ValueError, match="num_heads = 3; allowed: a divisor of embed_dim = 8"):
        vicinal.NeighborhoodAttention1D(8, 3, 3)
    with pytest.raises(ValueError, match=r"tokens has 3 dimensions; allowed: 4, \[batch, X, Y, embed_dim\]"):
        vicinal.NeighborhoodAttention2D(8, 2, 3)(torch.randn(1, 5, 8))
    with pytest.raises(AttributeError, match="no attribute 'NeighborhoodAttention4D'"):
        _ = vicinal.NeighborhoodAttention4D
