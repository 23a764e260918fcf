"""One attention from several over parts of the keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["merge_attentions"]


def merge_attentions(outputs: Sequence[Any], lses: Sequence[Any]) -> tuple[Any, Any]:
    """Attention over the union of disjoint sets of keys, from the attention over each set.

    Each output counts in proportion to exp(its logsumexp). A part whose logsumexp is -inf saw no key and counts for
    nothing, whatever its output. PyTorch tensors (differentiable) or NumPy arrays; computed in the dtype of the
    logsumexp.

    Args:
        outputs: [batch, *layout, heads, dim_v] each, at least one.
        lses: [batch, *layout, heads] each, natural logarithm, one for every output.

    Returns:
        The merged output in the dtype of the first output, and the merged logsumexp; -inf and zeros where no part saw
        a key.

    Raises:
        ValueError: no outputs, another number of lses, or shapes that do not fit.
    """
    if len(outputs) == 0 or len(outputs) != len(lses):
        raise ValueError(f"outputs has {len(outputs)} parts and lses {len(lses)}; allowed: the same number, at least 1")
    for i, (output, lse) in enumerate(zip(outputs, lses, strict=True)):
        if output.shape != outputs[0].shape or lse.shape != output.shape[:-1]:
            raise ValueError(
                f"outputs[{i}] has shape {tuple(output.shape)} and lses[{i}] {tuple(lse.shape)}; allowed: "
                f"{tuple(outputs[0].shape)} and {tuple(outputs[0].shape[:-1])}, as the first output"
            )
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(outputs[0], torch.Tensor):
        merged, lse = _merge(torch, torch.stack(tuple(outputs)), torch.stack(tuple(lses)))
        return merged.to(outputs[0].dtype), lse
    merged, lse = _merge(np, np.stack(outputs), np.stack(lses))
    return merged.astype(outputs[0].dtype), lse


def _merge(xp: Any, outputs: Any, lses: Any) -> tuple[Any, Any]:
    # A gradient that meets an infinity on its way is NaN even where its value is not used, so infinities are replaced
    # before the arithmetic and not after it.
    seen = lses != -np.inf
    any_seen = seen.any(0)
    peak = xp.where(any_seen, xp.amax(lses, 0), 0.0)
    weights = xp.where(seen, xp.exp(xp.where(seen, lses, 0.0) - peak), 0.0)
    total = xp.where(any_seen, weights.sum(0), 1.0)
    merged = (xp.where(seen[..., None], outputs, 0.0) * (weights / total)[..., None]).sum(0)
    return merged, xp.where(any_seen, peak + xp.log(total), -np.inf)
