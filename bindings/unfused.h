#pragma once

// The unfused operators (include/vicinal/unfused.h) on arrays that `tensor_of` reads, called as `forward` and
// `backward` are. `attn` are the weights, `rpb` is the bias; an array that is None is absent.

#include <nanobind/nanobind.h>

namespace vicinal::python {

/// Writes `attn`, with 0 in masked slots or else -inf.
void pointwise_neighborhood(const nanobind::tuple& parameters, nanobind::handle query, nanobind::handle key,
                            nanobind::handle additional_keys, nanobind::handle rpb, nanobind::handle attn,
                            bool masked_is_zero, nanobind::handle where);

/// Writes `output`.
void neighborhood_neighborhood(const nanobind::tuple& parameters, nanobind::handle attn, nanobind::handle value,
                               nanobind::handle additional_values, nanobind::handle output, nanobind::handle where);

/// Writes `grad_value` and `grad_additional_values`.
void inverse_neighborhood(const nanobind::tuple& parameters, nanobind::handle attn, nanobind::handle grad_output,
                          nanobind::handle grad_value, nanobind::handle grad_additional_values, nanobind::handle where);

/// Writes `grad_rpb`.
void bias_gradient(const nanobind::tuple& parameters, nanobind::handle grad_attn, nanobind::handle grad_rpb,
                   nanobind::handle where);

}  // namespace vicinal::python
