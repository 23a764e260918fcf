"""What autograd keeps between the passes: query, key, value, output and logsumexp, nothing else."""

from __future__ import annotations

import pytest
import torch
import vicinal
from calls import attend
from dense import Problem

PROBLEM = Problem((9, 10), (3, 5), (1, 2), (1, 2), (False, True), batch=2, heads=4, heads_kv=2, dim=16, dim_v=8)
WITH_TOKENS = Problem((30,), (7,), (1,), (1,), (False,), heads=2, heads_kv=2, dim=8, dim_v=8, additional_tokens=3)


def saved_by(run) -> list[torch.Tensor]:
    saved = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        saved.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    return saved


@pytest.mark.parametrize("problem", [PROBLEM, WITH_TOKENS], ids=["", "additional tokens"])
def test_saved_tensors(problem: Problem) -> None:
    inputs = problem.tensors(dtype=torch.float32, requires_grad=True)
    results = []
    saved = saved_by(lambda: results.extend(attend(problem, inputs)))
    expected = [x for x in inputs if x is not None] + results
    assert sorted(x.data_ptr() for x in saved if x is not None) == sorted(x.data_ptr() for x in expected)


def test_saved_bytes_of_a_compiled_call() -> None:
    inputs = PROBLEM.tensors(dtype=torch.float32, requires_grad=True)
    compiled = torch.compile(lambda *x: attend(PROBLEM, x)[0] * 2, fullgraph=True, backend="aot_eager")
    saved = {x.data_ptr(): x.nbytes for x in saved_by(lambda: compiled(*inputs))}
    rows = PROBLEM.batch * 90
    of_inputs = rows * (PROBLEM.heads * PROBLEM.dim + PROBLEM.heads_kv * (PROBLEM.dim + PROBLEM.dim_v))
    of_results = rows * PROBLEM.heads * (PROBLEM.dim_v + 1)
    assert sum(saved.values()) <= 4 * (of_inputs + of_results)


def test_saved_bytes_of_a_module() -> None:
    module = vicinal.NeighborhoodAttention2D(32, 4, 3)
    tokens = torch.randn(2, 9, 10, 32, requires_grad=True)
    saved = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in saved_by(lambda: module(tokens))}
    weights = sum(x.nbytes for x in module.parameters())
    of_tokens = 4 * 2 * 90 * (32 + 3 * 32 + 32 + 4)  # of the module, packed query, key and value, output, logsumexp
    assert sum(saved.values()) <= weights + of_tokens
