"""PyTorch: the operators vicinal::attention and vicinal::attention_backward, and a short way around the dispatcher.

Every mode, transform and compiler of PyTorch sees the operators. Where none of them is at work, a call goes to the
extension directly, since the dispatcher's way through Python takes several times as long as a small problem.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.autograd import profiler as autograd_profiler

from vicinal import _ext
from vicinal._parameters import Parameters

_ext.register_array_type(torch.Tensor)

# --- the passes on real memory --------------------------------------------------------------------------------------


def _forward(query, key, value, additional_keys, additional_values, parameters, with_logsumexp):
    output = query.new_empty(query.shape[:-1] + value.shape[-1:])
    logsumexp = query.new_empty(query.shape[:-1], dtype=_logsumexp_dtype(query)) if with_logsumexp else None
    _ext.forward(
        parameters, query, key, value, additional_keys, additional_values, output, logsumexp,
        torch.get_num_threads(),
    )  # fmt: skip
    return output, logsumexp


def _backward(
    query, key, value, additional_keys, additional_values, output, logsumexp, grad_output, grad_logsumexp, parameters
):
    """Gradients of the inputs, contiguous; of the first three where there are no additional tokens."""
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    elif grad_output.stride(-1) != 1:  # expanded by sum(), say
        grad_output = grad_output.contiguous()
    inputs = query, key, value, additional_keys, additional_values
    gradients = _empty_gradients(*inputs)
    missing = (None,) * (len(inputs) - len(gradients))
    _ext.backward(
        parameters, *inputs, output, logsumexp, grad_output, grad_logsumexp, *gradients, *missing,
        torch.get_num_threads(),
    )  # fmt: skip
    return gradients


def _empty_gradients(*inputs):
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs if x is not None]


def _logsumexp_dtype(query):
    return torch.float64 if query.dtype == torch.float64 else torch.float32


# --- the operators --------------------------------------------------------------------------------------------------

_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor? additional_keys, Tensor? additional_values"
_GRADIENTS = "Tensor? grad_output, Tensor? grad_logsumexp"
_PARAMETERS = "int[] kernel_size, int[] stride, int[] dilation, bool[] is_causal, float? scale, str? backend"

_library = torch.library.Library("vicinal", "FRAGMENT")
_library.define(
    f"attention({_INPUTS}, {_PARAMETERS}) -> (Tensor output, Tensor logsumexp)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    f"attention_backward({_INPUTS}, Tensor output, Tensor logsumexp, {_GRADIENTS}, {_PARAMETERS}) -> Tensor[]",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_attention_op = torch.ops.vicinal.attention.default
_attention_backward_op = torch.ops.vicinal.attention_backward.default

_INPUT_COUNT = 5
_PARAMETER_COUNT = len(Parameters._fields)


def _parameters_of(kernel_size, stride, dilation, is_causal, scale, backend):
    return Parameters(tuple(kernel_size), tuple(stride), tuple(dilation), tuple(is_causal), scale, backend)


def _attention_kernel(*arguments):
    return _forward(*arguments[:_INPUT_COUNT], _parameters_of(*arguments[_INPUT_COUNT:]), with_logsumexp=True)


def _attention_backward_kernel(*arguments):
    return _backward(*arguments[:-_PARAMETER_COUNT], _parameters_of(*arguments[-_PARAMETER_COUNT:]))


# On CUDA the planner answers: it names what each kernel lacks.
for _device in ("CPU", "CUDA"):
    _library.impl("attention", _attention_kernel, _device)
    _library.impl("attention_backward", _attention_backward_kernel, _device)


@torch.library.register_fake("vicinal::attention", lib=_library)
def _(query, key, value, *_others):
    output = query.new_empty(query.shape[:-1] + value.shape[-1:])
    return output, query.new_empty(query.shape[:-1], dtype=_logsumexp_dtype(query))


@torch.library.register_fake("vicinal::attention_backward", lib=_library)
def _(query, key, value, additional_keys, additional_values, *_others):
    return _empty_gradients(query, key, value, additional_keys, additional_values)


def _refuse_vmap(*_arguments):
    raise NotImplementedError("torch.vmap of neighborhood attention is not supported; fold the axis into the batch")


torch.library.register_vmap("vicinal::attention", _refuse_vmap, lib=_library)
torch.library.register_vmap("vicinal::attention_backward", _refuse_vmap, lib=_library)

# --- gradients ------------------------------------------------------------------------------------------------------


def _save(ctx, inputs, parameters, output, logsumexp):
    ctx.save_for_backward(*inputs, output, logsumexp)
    ctx.parameters = parameters
    ctx.set_materialize_grads(False)


def _setup_context(ctx, inputs, output):
    _save(ctx, inputs[:_INPUT_COUNT], _parameters_of(*inputs[_INPUT_COUNT:]), *output)


def _gradients(ctx, grad_output, grad_logsumexp):
    """Of every input that is a tensor; None for the others."""
    if grad_output is None and grad_logsumexp is None:
        return (None,) * _INPUT_COUNT
    saved = ctx.saved_tensors
    # Under create_graph=True the operator leaves a node in the graph that refuses to be differentiated.
    if not torch.is_grad_enabled() and _is_direct(*saved, grad_output, grad_logsumexp):
        gradients = _backward(*saved, grad_output, grad_logsumexp, ctx.parameters)
    else:
        gradients = _attention_backward_op(*saved, grad_output, grad_logsumexp, *ctx.parameters)
    return *gradients, *(None,) * (_INPUT_COUNT - len(gradients))


def _operator_gradients(ctx, grad_output, grad_logsumexp):
    return *_gradients(ctx, grad_output, grad_logsumexp), *(None,) * _PARAMETER_COUNT


def _refuse_second_derivative(_ctx, _gradients):
    raise NotImplementedError("second derivatives of neighborhood attention are not supported")


torch.library.register_autograd(
    "vicinal::attention", _operator_gradients, setup_context=_setup_context, lib=_library
)
torch.library.register_autograd("vicinal::attention_backward", _refuse_second_derivative, lib=_library)


class _Attention(torch.autograd.Function):
    """The gradients of a direct call."""

    @staticmethod
    def forward(ctx, parameters, *inputs):
        output, logsumexp = _forward(*inputs, parameters, with_logsumexp=True)
        _save(ctx, inputs, parameters, output, logsumexp)
        return output, logsumexp

    @staticmethod
    def backward(ctx, grad_output, grad_logsumexp):
        return None, *_gradients(ctx, grad_output, grad_logsumexp)


# Function.apply without its handling of functorch, which is never active here.
_apply_attention = super(torch.autograd.Function, _Attention).apply

# --- calls ----------------------------------------------------------------------------------------------------------

# Private, so a later PyTorch may lack one of them; then every call goes through the operators, with the same result.
try:
    from torch._C import (
        _are_functorch_transforms_active,
        _get_tracing_state,
        _len_torch_dispatch_stack,
        _len_torch_function_stack,
    )
except ImportError:
    _SHORT_WAY_EXISTS = False
else:
    _SHORT_WAY_EXISTS = True


def _is_observed():
    """Whether something wants to see operators: a compiler, a mode, a transform, a tracer or a profiler."""
    return (
        torch.compiler.is_compiling()
        or not _SHORT_WAY_EXISTS
        or _len_torch_dispatch_stack() > 0
        or _len_torch_function_stack() > 0
        or _are_functorch_transforms_active()
        or _get_tracing_state() is not None
        or forward_ad._current_level >= 0
        or autograd_profiler._is_profiler_enabled
    )


def _is_direct(*tensors):
    """Whether these are ordinary tensors (or None) in CPU memory and nothing observes the call."""
    if _is_observed():
        return False
    for x in tensors:
        if x is None:
            continue
        if type(x) is not torch.Tensor and type(x) is not torch.nn.Parameter:
            return False
        if not x.is_cpu or x.layout is not torch.strided or x.is_neg():
            return False
    return True


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    parameters: Parameters,
    return_lse: bool,
) -> Any:
    """What the functions of vicinal.functional do for PyTorch tensors."""
    inputs = query, key, value, additional_keys, additional_values
    device = query.device.type
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        inputs = _cast_as_sdpa(inputs, device)
    if not _is_direct(*inputs):
        _require_tensors(inputs)
        output, logsumexp = _attention_op(*inputs, *parameters)
    elif torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        output, logsumexp = _apply_attention(parameters, *inputs)
    else:
        output, logsumexp = _forward(*inputs, parameters, with_logsumexp=return_lse)
    return (output, logsumexp) if return_lse else output


def _cast_as_sdpa(inputs, device):
    """To the dtype of autocast, all but float64: what it does to scaled_dot_product_attention."""
    dtype = torch.get_autocast_dtype(device)

    def cast(x):
        eligible = isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
        return x.to(dtype) if eligible and x.device.type == device else x

    return tuple(cast(x) for x in inputs)


def _require_tensors(inputs):
    for name, x in zip(("query", "key", "value", "additional_keys", "additional_values"), inputs, strict=True):
        if not isinstance(x, torch.Tensor) and not (x is None and name.startswith("additional")):
            raise TypeError(f"{name} is of type {type(x).__name__}; allowed: torch.Tensor, as query is one")
