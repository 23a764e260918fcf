"""Vicinal called on the problems of the tests."""

from __future__ import annotations

import vicinal
from dense import Problem


def attend(problem: Problem, inputs, **keywords):
    """Output and logsumexp."""
    query, key, value, additional_keys, additional_values = inputs
    return vicinal.neighborhood_attention_generic(
        query,
        key,
        value,
        **problem.parameters,
        additional_keys=additional_keys,
        additional_values=additional_values,
        return_lse=True,
        **keywords,
    )
