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
from vicinal._parameters import PARAMETER_COUNT, Parameters, warn_once
from vicinal._torch_cuda import where

_ext.register_array_type(torch.Tensor)
torch.compiler.assume_constant_result(warn_once)  # torch.compile warns while it compiles

# --- the passes on real memory --------------------------------------------------------------------------------------


def _forward(query, key, value, additional_keys, additional_values, parameters, with_logsumexp):
    output, logsumexp = _empty_results(query, value, with_logsumexp)
    _ext.forward(parameters, query, key, value, additional_keys, additional_values, output, logsumexp, where(query))
    return output, logsumexp


def _empty_results(query, value, with_logsumexp):
    *rows, _ = query.shape
    # Sizes as separate arguments: PyTorch takes half as long to read them as those of a tuple.
    output = query.new_empty(*rows, value.shape[-1])
    if not with_logsumexp:
        return output, None
    return output, query.new_empty(*rows, dtype=torch.float64 if query.dtype is torch.float64 else torch.float32)


def _backward(
    query, key, value, additional_keys, additional_values, output, logsumexp, grad_output, grad_logsumexp, parameters
):
    """Gradients of the inputs, contiguous; of the first three where there are no additional tokens.

    By a kernel that gives the same bits every time, if torch.use_deterministic_algorithms asks for that when it runs.
    There always is one, so the mode that only warns has nothing to warn of.
    """
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    elif grad_output.stride(-1) != 1:  # expanded by sum(), say
        grad_output = grad_output.clone(memory_format=torch.contiguous_format)
    gradients = _empty_gradients(query, key, value, additional_keys, additional_values)
    missing = (None,) * (_INPUT_COUNT - len(gradients))
    _ext.backward(
        parameters, query, key, value, additional_keys, additional_values, output, logsumexp, grad_output,
        grad_logsumexp, *gradients, *missing, torch.are_deterministic_algorithms_enabled(), where(query),
    )  # fmt: skip
    return gradients


def _empty_gradients(*inputs):
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs if x is not None]


# --- the operators --------------------------------------------------------------------------------------------------

_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor? additional_keys, Tensor? additional_values"
_GRADIENTS = "Tensor? grad_output, Tensor? grad_logsumexp"
_PARAMETERS = (
    "int[] kernel_size, int[] stride, int[] dilation, bool[] is_causal, float? scale, str? backend, int[] tilings"
)

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


def _parameters_of(kernel_size, stride, dilation, is_causal, scale, backend, tilings):
    return tuple(kernel_size), tuple(stride), tuple(dilation), tuple(is_causal), scale, backend, tuple(tilings)


def _attention_kernel(*arguments):
    return _forward(*arguments[:_INPUT_COUNT], _parameters_of(*arguments[_INPUT_COUNT:]), with_logsumexp=True)


def _attention_backward_kernel(*arguments):
    return _backward(*arguments[:-PARAMETER_COUNT], _parameters_of(*arguments[-PARAMETER_COUNT:]))


for _device in ("CPU", "CUDA"):
    _library.impl("attention", _attention_kernel, _device)
    _library.impl("attention_backward", _attention_backward_kernel, _device)


@torch.library.register_fake("vicinal::attention", lib=_library)
def _(query, _key, value, *_others):
    return _empty_results(query, value, with_logsumexp=True)


@torch.library.register_fake("vicinal::attention_backward", lib=_library)
def _(query, key, value, additional_keys, additional_values, *_others):
    return _empty_gradients(query, key, value, additional_keys, additional_values)


def _refuse_vmap(*_arguments):
    raise NotImplementedError("torch.vmap of neighborhood attention is not supported; fold the axis into the batch")


torch.library.register_vmap("vicinal::attention", _refuse_vmap, lib=_library)
torch.library.register_vmap("vicinal::attention_backward", _refuse_vmap, lib=_library)

# --- gradients ------------------------------------------------------------------------------------------------------


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:_INPUT_COUNT], *output)
    ctx.parameters = inputs[_INPUT_COUNT:]
    ctx.set_materialize_grads(False)


def _operator_gradients(ctx, grad_output, grad_logsumexp):
    gradients = _differentiate_operator(ctx, grad_output, grad_logsumexp)
    return *gradients, *(None,) * (_INPUT_COUNT + PARAMETER_COUNT - len(gradients))


def _differentiate_operator(ctx, grad_output, grad_logsumexp):
    if grad_output is None and grad_logsumexp is None:
        return ()
    return _attention_backward_op(*ctx.saved_tensors, grad_output, grad_logsumexp, *ctx.parameters)


def _refuse_second_derivative(_ctx, _gradients):
    raise NotImplementedError("second derivatives of neighborhood attention are not supported")


torch.library.register_autograd("vicinal::attention", _operator_gradients, setup_context=_setup_context, lib=_library)
torch.library.register_autograd("vicinal::attention_backward", _refuse_second_derivative, lib=_library)


class _Attention(torch.autograd.Function):
    """The gradients of a direct call."""

    @staticmethod
    def forward(ctx, call, query, key, value, additional_keys=None, additional_values=None):
        parameters, return_lse = call
        output, logsumexp = _forward(query, key, value, additional_keys, additional_values, parameters, True)
        ctx.save_for_backward(query, key, value, additional_keys, additional_values, output, logsumexp)
        ctx.parameters = parameters
        if not return_lse:
            return output
        ctx.set_materialize_grads(False)
        return output, logsumexp

    @staticmethod
    def backward(ctx, grad_output, grad_logsumexp=None):
        if (
            torch.is_grad_enabled()  # create_graph=True: the operator leaves a node that refuses to be differentiated
            or torch.compiler.is_dynamo_compiling()
            or not _nothing_watches()
            or not (grad_output is None or _is_plain(grad_output))
            or not (grad_logsumexp is None or _is_plain(grad_logsumexp))
        ):
            gradients = _differentiate_operator(ctx, grad_output, grad_logsumexp)
        else:
            gradients = _backward(*ctx.saved_tensors, grad_output, grad_logsumexp, ctx.parameters)
        return None, *gradients


# Function.apply without its handling of functorch, which is never active here.
_apply_attention = super(torch.autograd.Function, _Attention).apply

# --- calls ----------------------------------------------------------------------------------------------------------

# Private, so a later PyTorch may lack one of them; then every call goes through the operators, with the same result.
try:
    from torch._C import (
        _are_functorch_transforms_active,
        _get_tracing_state,
        _is_any_autocast_enabled,
        _len_torch_dispatch_stack,
    )
except ImportError:
    _SHORT_WAY_EXISTS = False
else:
    _SHORT_WAY_EXISTS = True

_PLAIN_TYPES = frozenset({torch.Tensor, torch.nn.Parameter})


def _nothing_watches():
    """Whether no mode, transform, tracer or profiler wants to see operators."""
    return (
        _len_torch_dispatch_stack() == 0
        and not _are_functorch_transforms_active()
        and _get_tracing_state() is None
        and forward_ad._current_level < 0
        and not autograd_profiler._is_profiler_enabled
    )


def _is_plain(x):
    """Whether the numbers in the memory of a tensor are its elements."""
    return type(x) in _PLAIN_TYPES and not x.is_neg()


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
    may_be_direct = _SHORT_WAY_EXISTS and not torch.compiler.is_dynamo_compiling()
    if not may_be_direct or _is_any_autocast_enabled():
        query, key, value, additional_keys, additional_values = _cast_as_sdpa(
            query, key, value, additional_keys, additional_values
        )
    if (
        may_be_direct
        and _nothing_watches()
        and _is_plain(query)
        and _is_plain(key)
        and _is_plain(value)
        and (additional_keys is None or _is_plain(additional_keys))
        and (additional_values is None or _is_plain(additional_values))
    ):
        try:
            if torch.is_grad_enabled() and (
                query.requires_grad
                or key.requires_grad
                or value.requires_grad
                or (additional_keys is not None and additional_keys.requires_grad)
                or (additional_values is not None and additional_values.requires_grad)
            ):
                neither = additional_keys is None and additional_values is None
                additional = () if neither else (additional_keys, additional_values)
                return _apply_attention((parameters, return_lse), query, key, value, *additional)
            output, logsumexp = _forward(query, key, value, additional_keys, additional_values, parameters, return_lse)
            return (output, logsumexp) if return_lse else output
        except BufferError:
            pass  # no memory to read, as in sparse and meta tensors: the dispatcher knows what to do
    _require_supported(query, key, value, additional_keys, additional_values)
    output, logsumexp = _attention_op(query, key, value, additional_keys, additional_values, *parameters)
    return (output, logsumexp) if return_lse else output


def _cast_as_sdpa(*inputs):
    """Under autocast: to its dtype, all but float64, which is what it does to scaled_dot_product_attention."""
    device = inputs[0].device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return inputs
    dtype = torch.get_autocast_dtype(device)

    def cast(x):
        eligible = isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
        return x.to(dtype) if eligible and x.device.type == device else x

    return tuple(cast(x) for x in inputs)


def _require_supported(*inputs):
    names = ("query", "key", "value", "additional_keys", "additional_values")
    require_supported(dict(zip(names, inputs, strict=True)), optional=names[3:])


def require_supported(tensors: dict[str, Any], optional: tuple[str, ...]) -> None:
    """Refuses what is no tensor or is under a transform, by its name; the first one is a tensor."""
    for name, x in tensors.items():
        if x is None and name in optional:
            continue
        if not isinstance(x, torch.Tensor):
            first = next(iter(tensors))
            raise TypeError(f"{name} is of type {type(x).__name__}; allowed: torch.Tensor, as {first} is one")
        if torch.compiler.is_compiling():
            continue
        if torch._C._functorch.is_functorch_wrapped_tensor(x):
            raise NotImplementedError(
                "torch.func transforms (vmap, grad, jvp, ...) of neighborhood attention are not supported; fold a "
                "mapped axis into the batch, and take gradients with torch.autograd"
            )
        if forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None:
            raise NotImplementedError("forward-mode derivatives of neighborhood attention are not supported")
