"""Attention on raw memory: the extension module. What people call is in vicinal."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

__version__: str

# kernel_size, stride, dilation, is_causal, scale, backend, tilings
_Parameters: TypeAlias = tuple[
    tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[bool, ...], float | None, str | None, tuple[int, ...]
]

# threads on the CPU; on CUDA a stream, and a function that allocates workspace of so many bytes on it
_Where: TypeAlias = int | tuple[int, Callable[[int], Any]]

class Array:
    """A strided array in memory that the caller keeps alive; strides in elements."""

    def __init__(self, address: int, shape: Sequence[int], strides: Sequence[int], dtype: str) -> None: ...

class Plan:
    """What would run for a problem, and why; `str(plan)` explains it."""

    @property
    def kernel(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def query_tile(self) -> tuple[int, ...]: ...
    @property
    def key_tile(self) -> tuple[int, ...]: ...
    @property
    def block(self) -> tuple[int, ...]: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def needed_multiply_adds(self) -> float: ...
    @property
    def visited_multiply_adds(self) -> float: ...
    @property
    def bytes(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def refusals(self) -> list[tuple[str, str]]: ...

def register_array_type(type: type) -> None: ...
def plan(
    parameters: _Parameters,
    layout: tuple[int, ...],
    batch: int,
    heads: int,
    heads_kv: int,
    dim: int,
    dim_v: int,
    additional_tokens: int,
    dtype: str,
    operation: str,
    deterministic: bool,
) -> Plan: ...
def forward(
    parameters: _Parameters,
    query: Any,
    key: Any,
    value: Any,
    additional_keys: Any,
    additional_values: Any,
    output: Any,
    logsumexp: Any,
    where: _Where,
) -> None: ...
def pointwise_neighborhood(
    parameters: _Parameters,
    query: Any,
    key: Any,
    additional_keys: Any,
    rpb: Any,
    attn: Any,
    masked_is_zero: bool,
    where: _Where,
) -> None: ...
def neighborhood_neighborhood(
    parameters: _Parameters, attn: Any, value: Any, additional_values: Any, output: Any, where: _Where
) -> None: ...
def inverse_neighborhood(
    parameters: _Parameters,
    attn: Any,
    grad_output: Any,
    grad_value: Any,
    grad_additional_values: Any,
    where: _Where,
) -> None: ...
def bias_gradient(parameters: _Parameters, grad_attn: Any, grad_rpb: Any, where: _Where) -> None: ...
def backward(
    parameters: _Parameters,
    query: Any,
    key: Any,
    value: Any,
    additional_keys: Any,
    additional_values: Any,
    output: Any,
    logsumexp: Any,
    grad_output: Any,
    grad_logsumexp: Any,
    grad_query: Any,
    grad_key: Any,
    grad_value: Any,
    grad_additional_keys: Any,
    grad_additional_values: Any,
    deterministic: bool,
    where: _Where,
) -> None: ...
