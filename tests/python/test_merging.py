"""Attention over parts of the keys, put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vicinal
from torch.testing import assert_close

SHAPE = (2, 4, 3, 5)  # batch, tokens, heads, dim


def parts(count: int, dtype: torch.dtype = torch.float64) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(count)
    outputs = [torch.randn(SHAPE, generator=generator, dtype=dtype) for _ in range(count)]
    return outputs, [torch.randn(SHAPE[:-1], generator=generator, dtype=dtype) * 3 for _ in range(count)]


def test_parts_of_the_keys_make_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 6, 7, 2, 4, generator=generator) for _ in range(3))
    keys, values = (torch.randn(1, 3, 2, 4, generator=generator) for _ in range(2))
    whole = vicinal.na2d(query, key, value, 3, additional_keys=keys, additional_values=values, return_lse=True)
    local = vicinal.na2d(query, key, value, 3, return_lse=True)
    scores = torch.einsum("bxyhd,bnhd->bxyhn", query, keys) / 2
    others = torch.einsum("bxyhn,bnhd->bxyhd", scores.softmax(-1), values), scores.logsumexp(-1)
    assert_close(vicinal.merge_attentions(*zip(local, others, strict=True)), whole, rtol=1e-5, atol=1e-5)


def test_gradients() -> None:
    outputs, lses = parts(3)
    leaves = [x.requires_grad_() for x in (*outputs, *lses)]
    assert torch.autograd.gradcheck(lambda *x: vicinal.merge_attentions(x[:3], x[3:]), leaves)


def test_parts_that_saw_nothing_count_for_nothing() -> None:
    outputs, lses = parts(3)
    lses[0][:] = -torch.inf
    outputs[0][:] = torch.nan
    lses[1][0, 0] = lses[2][0, 0] = -torch.inf
    leaves = [x.requires_grad_() for x in (*outputs, *lses)]
    output, lse = vicinal.merge_attentions(outputs, lses)
    assert (output[0, 0] == 0).all()
    assert (lse[0, 0] == -torch.inf).all()
    pair = vicinal.merge_attentions(outputs[1:], lses[1:])
    assert_close((output, lse), pair)
    (output.sum() + lse[lse.isfinite()].sum()).backward()
    assert all(x.grad.isfinite().all() for x in leaves)
    assert all((x.grad == 0).all() for x in (outputs[0], lses[0]))


def test_far_apart_logsumexps() -> None:
    outputs, lses = parts(2, torch.float32)
    output, lse = vicinal.merge_attentions(outputs, [lses[0] + 1e4, lses[1] - 1e4])
    assert_close(output, outputs[0])
    assert_close(lse, lses[0] + 1e4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_outputs_keep_their_dtype(dtype: torch.dtype) -> None:
    outputs, lses = parts(2, torch.float32)
    output, lse = vicinal.merge_attentions([x.to(dtype) for x in outputs], lses)
    expected, expected_lse = vicinal.merge_attentions(outputs, lses)
    assert (output.dtype, lse.dtype) == (dtype, torch.float32)
    assert_close(output, expected.to(dtype), rtol=1e-2, atol=1e-2)
    assert_close(lse, expected_lse)


def test_numpy() -> None:
    outputs, lses = parts(3, torch.float32)
    lses[1][0] = -torch.inf
    expected = vicinal.merge_attentions(outputs, lses)
    results = vicinal.merge_attentions([x.numpy() for x in outputs], [x.numpy() for x in lses])
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, reference.numpy(), rtol=1e-5, atol=1e-6)


def test_refusals() -> None:
    outputs, lses = parts(2)
    with pytest.raises(ValueError, match="outputs has 0 parts and lses 0; allowed: the same number, at least 1"):
        vicinal.merge_attentions([], [])
    with pytest.raises(ValueError, match="outputs has 2 parts and lses 1"):
        vicinal.merge_attentions(outputs, lses[:1])
    with pytest.raises(ValueError, match=r"outputs\[1\] has shape \(2, 4, 3, 5\) and lses\[1\] \(2, 4\)"):
        vicinal.merge_attentions(outputs, [lses[0], lses[1][..., 0]])
