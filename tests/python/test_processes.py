"""Fork after parallel work, calls from several threads, and a PyTorch that lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch
import vicinal
from torch.testing import assert_close

TOKENS = torch.randn(1, 32, 32, 2, 16, generator=torch.Generator().manual_seed(0))

# A hang must fail the test and not the run, so that it is done in a process of its own.
FORK = """
import os, sys
import numpy as np
{imports}
import vicinal
x = np.random.default_rng(0).standard_normal((1, 32, 32, 2, 16), np.float32)
expected = vicinal.na2d(x, x, x, 5)  # starts the threads of the parent
{before}
for _ in range(2):
    child = os.fork()
    if child == 0:
        os._exit(0 if (vicinal.na2d(x, x, x, 5) == expected).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
assert (vicinal.na2d(x, x, x, 5) == expected).all()
"""


@pytest.mark.parametrize(
    ("imports", "before"),
    [("", ""), ("import torch", "torch.ones(512, 512) @ torch.ones(512, 512)")],
    ids=["numpy", "torch"],
)
def test_a_fork_after_parallel_work_computes_the_same(imports: str, before: str) -> None:
    program = FORK.format(imports=imports, before=before)
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)


LACKING = """
import torch
del torch._C._is_any_autocast_enabled  # private, so it may go
import vicinal
import vicinal._torch
assert not vicinal._torch._SHORT_WAY_EXISTS
x = torch.randn(1, 16, 2, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
output = vicinal.na1d(x, x, x, 16)
heads = x.transpose(1, 2)
expected = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2)
torch.testing.assert_close(output, expected)
torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x) for y in (output, expected)))
"""


def test_a_pytorch_without_the_private_functions() -> None:
    subprocess.run([sys.executable, "-c", LACKING], check=True, timeout=120)


class Attended(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return vicinal.na2d(TOKENS, TOKENS, TOKENS, 5, scale=float(index))


def test_workers_of_a_data_loader() -> None:
    expected = [Attended()[i] for i in range(4)]
    loader = torch.utils.data.DataLoader(
        Attended(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    for result, reference in zip(loader, expected, strict=True):
        assert_close(result, reference, rtol=0, atol=0)


def test_calls_from_several_threads() -> None:
    expected = vicinal.na2d(TOKENS, TOKENS, TOKENS, 5)
    results: list[torch.Tensor] = []

    def work() -> None:
        for _ in range(5):
            results.append(vicinal.na2d(TOKENS, TOKENS, TOKENS, 5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    for result in results:
        assert_close(result, expected, rtol=0, atol=0)
