"""What PyTorch users have on a GPU instead: dense attention, and two ways to the same neighborhoods.

Whatever depends on the problem only (block masks, compiled code) is made before the clock runs, and each peer is given
the memory layout that it prefers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.problem import Problem, Tensors, attends

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

# Of every score: in fp32 once more than in the dtype of the inputs, and a gradient for each of the two.
MATH_BYTES_PER_SCORE = 16

torch._dynamo.config.recompile_limit = 64  # one graph for each problem
torch._functorch.config.donated_buffer = False  # or a recorded graph could be run backward only once


@dataclass(frozen=True)
class Peer:
    name: str
    dense: bool
    """Whether it computes all pairs of tokens, and not the neighborhoods."""
    heads_first: bool
    prepare: Callable[[Problem, str], Attention]
    """What to call for a problem on a device. Raises where the peer cannot do it."""

    def layout(self, tensors: Tensors) -> Tensors:
        return tensors.heads_first(tensors.query.shape[-2]) if self.heads_first else tensors


def _sdpa(backend: SDPBackend) -> Callable[[Problem, str], Attention]:
    def prepare(_problem: Problem, _device: str) -> Attention:
        def attend(query, key, value):
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(query, key, value)

        return attend

    return prepare


def _math(problem: Problem, device: str) -> Attention:
    needed = MATH_BYTES_PER_SCORE * problem.batch * problem.heads * problem.tokens**2
    free = torch.cuda.mem_get_info(device)[0] if device != "cpu" else 1 << 32
    if needed > free:
        raise torch.OutOfMemoryError(f"needs about {needed / 2**30:.0f} GiB")
    return _sdpa(SDPBackend.MATH)(problem, device)


def block_mask(problem: Problem, device: str) -> BlockMask:
    """The neighborhoods of a problem for FlexAttention, tokens in their order in memory."""
    axes = problem.axes

    def visible(_batch, _head, query, key):
        return attends(axes, query, key)

    return create_block_mask(visible, None, None, problem.tokens, problem.tokens, device=device)


_compiled_flex_attention = torch.compile(flex_attention, fullgraph=True, dynamic=False)


def _flex(problem: Problem, device: str) -> Attention:
    mask = block_mask(problem, device)
    return lambda query, key, value: _compiled_flex_attention(query, key, value, block_mask=mask)


def _natten(problem: Problem, _device: str) -> Attention:
    functional = importlib.import_module("natten.functional")
    attend = getattr(functional, f"na{len(problem.layout)}d")
    return lambda query, key, value: attend(
        query,
        key,
        value,
        kernel_size=problem.window,
        stride=problem.stride,
        dilation=problem.dilation,
        is_causal=problem.causal,
    )


PEERS = {
    "cudnn": Peer("cuDNN, dense", True, True, _sdpa(SDPBackend.CUDNN_ATTENTION)),
    "flash": Peer("FlashAttention-2, dense", True, True, _sdpa(SDPBackend.FLASH_ATTENTION)),
    "math": Peer("math, dense", True, True, _math),
    "flex": Peer("FlexAttention", False, True, _flex),
    "natten": Peer("NATTEN", False, False, _natten),
}


def gradients_of(output: torch.Tensor, leaves: Tensors) -> tuple[torch.Tensor, ...]:
    """The backward pass of a graph that was recorded before; it can be run again."""
    return torch.autograd.grad(output, leaves.inputs, leaves.grad, retain_graph=True)


def error_of(peer: Peer, attend: Attention, problem: Problem, tensors: Tensors, backward: bool) -> float:
    """The largest relative error of output and gradients against Vicinal's, for one head of one batch entry."""
    whole = peer.layout(tensors).requiring_grad()
    output = attend(*whole.inputs)
    found = [output, *(gradients_of(output, whole) if backward else ())]
    head = Tensors(*(x[:1, ..., :1, :] for x in (*tensors.inputs, tensors.grad))).requiring_grad()
    expected = [problem.attend(*head.inputs)]
    expected += gradients_of(expected[0], head) if backward else ()
    errors = []
    for actual, reference in zip(found, expected, strict=True):
        part = actual[0, 0] if peer.heads_first else actual[0, ..., 0, :]
        wide = reference.detach().flatten(0, -2).double()
        errors.append(((part.detach().double().reshape(wide.shape) - wide).norm() / wide.norm()).item())
    return max(errors, key=lambda error: (error != error, error))  # NaN is the worst
