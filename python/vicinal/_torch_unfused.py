"""PyTorch: the unfused operators, as vicinal::pointwise_neighborhood, vicinal::neighborhood_neighborhood,
vicinal::inverse_neighborhood and vicinal::bias_gradient.

Each is linear in each of its tensors and the derivatives of each are made of the others, so there are derivatives of
any order.
"""

from __future__ import annotations

import torch

from vicinal import _ext
from vicinal._parameters import PARAMETER_COUNT, Parameters, window_size
from vicinal._torch import _PARAMETERS, _cast_as_sdpa, _library, _parameters_of, _refuse_vmap, require_supported
from vicinal._torch_cuda import where

# --- on real memory -------------------------------------------------------------------------------------------------


def _with_rows(*tensors):
    """The tensors with contiguous last dimensions: gradients are often expanded, and weights permuted."""
    return [
        x.clone(memory_format=torch.contiguous_format) if x is not None and x.shape[-1] > 1 and x.stride(-1) != 1 else x
        for x in tensors
    ]


def _pointwise_neighborhood(query, key, rpb, additional_keys, masked_is_zero, *parameters):
    attn = _empty_attn(query, key, rpb, additional_keys, masked_is_zero, *parameters)
    query, key, additional_keys = _with_rows(query, key, additional_keys)
    _ext.pointwise_neighborhood(
        _parameters_of(*parameters), query, key, additional_keys, rpb, attn, masked_is_zero, where(query)
    )
    return attn


def _empty_attn(query, _key, _rpb, additional_keys, _masked_is_zero, kernel_size, *_parameters):
    additional = 0 if additional_keys is None else additional_keys.shape[1]
    return query.new_empty(*query.shape[:-1], window_size(kernel_size) + additional)


def _neighborhood_neighborhood(attn, value, additional_values, *parameters):
    output = _empty_output(attn, value)
    attn, value, additional_values = _with_rows(attn, value, additional_values)
    _ext.neighborhood_neighborhood(_parameters_of(*parameters), attn, value, additional_values, output, where(attn))
    return output


def _empty_output(attn, value, *_others):
    return attn.new_empty(*attn.shape[:-1], value.shape[-1])


def _inverse_neighborhood(attn, grad_output, heads_kv, *parameters):
    grad_value, grad_additional = _empty_value_gradients(attn, grad_output, heads_kv, *parameters)
    attn, grad_output = _with_rows(attn, grad_output)
    _ext.inverse_neighborhood(
        _parameters_of(*parameters), attn, grad_output, grad_value, _unless_empty(grad_additional),
        where(attn),
    )  # fmt: skip
    return grad_value, grad_additional


def _empty_value_gradients(attn, grad_output, heads_kv, kernel_size, *_parameters):
    batch, *layout, _, dim = grad_output.shape
    additional = attn.shape[-1] - window_size(kernel_size)
    return (
        grad_output.new_empty(batch, *layout, heads_kv, dim),
        grad_output.new_empty(batch, additional, heads_kv, dim),
    )


def _unless_empty(additional):
    return additional if additional.shape[1] > 0 else None


def _bias_gradient(grad_attn, *parameters):
    grad_rpb = _empty_rpb(grad_attn, *parameters)
    _ext.bias_gradient(_parameters_of(*parameters), *_with_rows(grad_attn), grad_rpb, where(grad_attn))
    return grad_rpb


def _empty_rpb(grad_attn, kernel_size, *_parameters):
    return grad_attn.new_empty(grad_attn.shape[-2], *(2 * k - 1 for k in kernel_size))


# --- the gradients of each, made of the others ----------------------------------------------------------------------

# A gradient that autograd does not need is not computed: ctx.needs_input_grad is in the order of the arguments.
_NO_GRADIENTS_OF_PARAMETERS = (None,) * PARAMETER_COUNT


def _keep(ctx, inputs, tensors):
    ctx.save_for_backward(*tensors)
    ctx.parameters = inputs[-PARAMETER_COUNT:]


def _setup_pointwise(ctx, inputs, output):
    query, key, _rpb, additional_keys, *_ = inputs
    _keep(ctx, inputs, (query, key, additional_keys))


def _differentiate_pointwise(ctx, grad_attn):
    query, key, additional_keys = ctx.saved_tensors
    for_query, for_key, for_rpb, for_additional, *_ = ctx.needs_input_grad
    grad_query = grad_key = grad_rpb = grad_additional = None
    if for_query:
        grad_query = _ops.neighborhood_neighborhood(grad_attn, key, additional_keys, *ctx.parameters)
    if for_key or for_additional:
        grad_key, grad_additional = _ops.inverse_neighborhood(grad_attn, query, key.shape[-2], *ctx.parameters)
    if for_rpb:
        grad_rpb = _ops.bias_gradient(grad_attn, *ctx.parameters)
    if additional_keys is None:
        grad_additional = None
    return grad_query, grad_key, grad_rpb, grad_additional, None, *_NO_GRADIENTS_OF_PARAMETERS


def _setup_neighborhood(ctx, inputs, output):
    _keep(ctx, inputs, inputs[:3])


def _differentiate_neighborhood(ctx, grad_output):
    attn, value, additional_values = ctx.saved_tensors
    for_attn, for_value, for_additional, *_ = ctx.needs_input_grad
    grad_attn = grad_value = grad_additional = None
    if for_attn:  # slots that were not read have no gradient
        grad_attn = _ops.pointwise_neighborhood(grad_output, value, None, additional_values, True, *ctx.parameters)
    if for_value or for_additional:
        grad_value, grad_additional = _ops.inverse_neighborhood(attn, grad_output, value.shape[-2], *ctx.parameters)
    if additional_values is None:
        grad_additional = None
    return grad_attn, grad_value, grad_additional, *_NO_GRADIENTS_OF_PARAMETERS


def _setup_inverse(ctx, inputs, output):
    _keep(ctx, inputs, inputs[:2])


def _differentiate_inverse(ctx, grad_value, grad_additional):
    attn, grad_output = ctx.saved_tensors
    for_attn, for_output, *_ = ctx.needs_input_grad
    additional = _unless_empty(grad_additional)
    of_attn = of_output = None
    if for_attn:
        of_attn = _ops.pointwise_neighborhood(grad_output, grad_value, None, additional, True, *ctx.parameters)
    if for_output:
        of_output = _ops.neighborhood_neighborhood(attn, grad_value, additional, *ctx.parameters)
    return of_attn, of_output, None, *_NO_GRADIENTS_OF_PARAMETERS


def _setup_bias(ctx, inputs, output):
    ctx.shape = inputs[0].shape
    ctx.parameters = inputs[-PARAMETER_COUNT:]


def _differentiate_bias(ctx, grad_rpb):
    batch, *layout, heads, slots = ctx.shape
    rows = grad_rpb.new_zeros(batch, *layout, heads, 1)
    additional = slots - window_size(ctx.parameters[0])
    additional_rows = grad_rpb.new_zeros(batch, additional, heads, 1) if additional > 0 else None
    of_attn = _ops.pointwise_neighborhood(rows, rows, grad_rpb, additional_rows, True, *ctx.parameters)
    return of_attn, *_NO_GRADIENTS_OF_PARAMETERS


# --- the operators --------------------------------------------------------------------------------------------------


def _define(signature, kernel, fake, setup_context, backward):
    name = "vicinal::" + signature[: signature.index("(")]
    _library.define(signature, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        _library.impl(name, kernel, device)
    torch.library.register_fake(name, fake, lib=_library)
    torch.library.register_vmap(name, _refuse_vmap, lib=_library)
    torch.library.register_autograd(name, backward, setup_context=setup_context, lib=_library)


_define(
    "pointwise_neighborhood(Tensor query, Tensor key, Tensor? rpb, Tensor? additional_keys, bool masked_is_zero, "
    f"{_PARAMETERS}) -> Tensor",
    _pointwise_neighborhood,
    _empty_attn,
    _setup_pointwise,
    _differentiate_pointwise,
)
_define(
    f"neighborhood_neighborhood(Tensor attn, Tensor value, Tensor? additional_values, {_PARAMETERS}) -> Tensor",
    _neighborhood_neighborhood,
    _empty_output,
    _setup_neighborhood,
    _differentiate_neighborhood,
)
_define(
    f"inverse_neighborhood(Tensor attn, Tensor grad_output, SymInt heads_kv, {_PARAMETERS}) "
    "-> (Tensor grad_value, Tensor grad_additional_values)",
    _inverse_neighborhood,
    _empty_value_gradients,
    _setup_inverse,
    _differentiate_inverse,
)
_define(
    f"bias_gradient(Tensor grad_attn, {_PARAMETERS}) -> Tensor",
    _bias_gradient,
    _empty_rpb,
    _setup_bias,
    _differentiate_bias,
)

_ops = torch.ops.vicinal

# --- calls ----------------------------------------------------------------------------------------------------------


def qk(
    query: torch.Tensor,
    key: torch.Tensor,
    rpb: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    parameters: Parameters,
) -> torch.Tensor:
    """What the qk functions of vicinal.unfused do for PyTorch tensors."""
    query, key, rpb, additional_keys = _cast_as_sdpa(query, key, rpb, additional_keys)
    tensors = {"query": query, "key": key, "rpb": rpb, "additional_keys": additional_keys}
    require_supported(tensors, optional=("rpb", "additional_keys"))
    return _ops.pointwise_neighborhood(query, key, rpb, additional_keys, False, *parameters)


def av(
    attn: torch.Tensor,
    value: torch.Tensor,
    additional_values: torch.Tensor | None,
    parameters: Parameters,
) -> torch.Tensor:
    """What the av functions of vicinal.unfused do for PyTorch tensors."""
    attn, value, additional_values = _cast_as_sdpa(attn, value, additional_values)
    require_supported(
        {"attn": attn, "value": value, "additional_values": additional_values}, optional=("additional_values",)
    )
    return _ops.neighborhood_neighborhood(attn, value, additional_values, *parameters)
