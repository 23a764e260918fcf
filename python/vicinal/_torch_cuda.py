"""What is special to tensors on CUDA devices: the stream that a call runs on, and memory that belongs to it."""

from __future__ import annotations

from collections.abc import Callable

import torch

try:
    from torch._C import _cuda_getCurrentRawStream as _current_stream
except ImportError:  # private, or a PyTorch without CUDA

    def _current_stream(device: int) -> int:
        return torch.cuda.current_stream(device).cuda_stream


def execution(query: torch.Tensor) -> tuple[int, Callable[[int], torch.Tensor]]:
    """The current stream of the tensor's device, and a function that allocates workspace.

    The extension drops the workspace when everything that uses it is on the stream. PyTorch may then give the memory to
    what comes later on the same stream, and to nothing else.
    """
    device = query.device

    def allocate(size: int) -> torch.Tensor:
        """At least `size` bytes."""
        return torch.empty((size + 3) // 4, dtype=torch.float32, device=device)

    return _current_stream(device.index), allocate
