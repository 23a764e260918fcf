"""Recorded results of another implementation, through NumPy and through PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vicinal
from dense import GoldenCase, golden_cases
from numpy.testing import assert_allclose

CASES = golden_cases()


def check(case: GoldenCase, **results: np.ndarray) -> None:
    for name, result in results.items():
        expected = case.recorded[name]
        assert_allclose(result, expected, rtol=0, atol=2e-5 * max(1.0, np.abs(expected).max()), err_msg=name)


def attend(case: GoldenCase, inputs, backend):
    query, key, value, additional_keys, additional_values = inputs
    function = (vicinal.na1d, vicinal.na2d, vicinal.na3d)[len(case.problem.layout) - 1]
    return function(
        query,
        key,
        value,
        **case.problem.parameters,
        additional_keys=additional_keys,
        additional_values=additional_values,
        backend=backend,
        return_lse=True,
    )


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.problem.name)
def test_numpy_gives_what_was_recorded(case: GoldenCase, backend: str | None) -> None:
    output, logsumexp = attend(case, case.inputs, backend)
    assert type(output) is type(logsumexp) is np.ndarray
    assert output.dtype == logsumexp.dtype == np.float32
    check(case, out=output, lse=logsumexp)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.problem.name)
def test_torch_gives_what_was_recorded(case: GoldenCase) -> None:
    inputs = [None if x is None else torch.from_numpy(x).requires_grad_() for x in case.inputs]
    output, logsumexp = attend(case, inputs, None)
    check(case, out=output.detach().numpy(), lse=logsumexp.detach().numpy())
    output.backward(torch.from_numpy(case.grad_output))
    gradients = [x.grad.numpy() for x in inputs if x is not None]
    check(case, **dict(zip(("dq", "dk", "dv", "dek", "dev"), gradients, strict=False)))


def test_generic_function_takes_every_rank() -> None:
    for case in CASES[::10]:
        query, key, value, additional_keys, additional_values = case.inputs
        output = vicinal.neighborhood_attention_generic(
            query,
            key,
            value,
            **case.problem.parameters,
            additional_keys=additional_keys,
            additional_values=additional_values,
        )
        check(case, out=output)
