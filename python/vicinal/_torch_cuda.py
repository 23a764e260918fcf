"""Where calls on PyTorch's tensors run: with how many threads, or on which stream and with whose memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

try:
    from torch._C import _cuda_getCurrentRawStream as _current_stream
except ImportError:  # private, or a PyTorch without CUDA

    def _current_stream(device: int) -> int:
        return torch.cuda.current_stream(device).cuda_stream


def where(x: torch.Tensor) -> int | tuple[int, Callable[[int], torch.Tensor]]:
    """On the CPU PyTorch's number of threads. On CUDA the current stream of the tensor's device, and a function that
    allocates workspace: the extension drops it when all that uses it is on the stream, and PyTorch then gives the
    memory to what comes later on that stream, and to nothing else.
    """
    if x.is_cuda:
        return _current_stream(x.get_device()), partial(_allocate, x.device)
    return torch.get_num_threads()


def _allocate(device: torch.device, size: int) -> torch.Tensor:
    """At least `size` bytes."""
    return torch.empty((size + 3) // 4, dtype=torch.float32, device=device)
