#pragma once

// The unfused operators of "Faster Neighborhood Attention" (section 3.1), for callers who need the attention weights
// themselves: pointwise-neighborhood (PN), neighborhood-neighborhood (NN), inverse-neighborhood (IN), and the gradient
// of PN's relative positional bias.
//
// Weights are [B, *layout, H, W] with W = prod(window) + extra_kv, one slot per key of the query's window: slot j of an
// axis is the key j * dilation after the first key of the window, slots are row-major over the axes, extra tokens come
// last. A slot is masked when causality leaves it without a key. A problem's `dim` is the head dim of every tensor with
// one here; `dim_v` must equal it. Weights and bias have the dtype of the problem.
//
// How gradients are made of the operators, for attn = qk(query, key, bias) and output = av(attn, value):
//   grad_query = NN(grad_attn, key)         grad_key   = IN(grad_attn, query)      grad_bias = bias_gradient(grad_attn)
//   grad_attn  = PN(grad_output, value)     grad_value = IN(attn, grad_output)

#include "vicinal/attention.h"
#include "vicinal/plan.h"
#include "vicinal/tensor.h"

namespace vicinal {

/// What PN writes to masked slots.
enum class MaskedScore : std::uint8_t {
  minus_infinity,  ///< for scores, so that a softmax over the slots ignores them
  zero,            ///< for the gradient of weights that NN ignored
};

/// PN: weights = scale * dot(query, key) + bias. B batch, H heads, G heads_kv, D dim, N extra_kv, W slots.
struct PointwiseNeighborhoodTensors {
  Tensor query;      ///< [B, *layout, H, D]
  Tensor key;        ///< [B, *layout, G, D]
  Tensor extra_key;  ///< [B, N, G, D]; absent when N is 0
  Tensor bias;  ///< [H, 2*window-1 per axis], added at index window - 1 + (key - query) / dilation; may be absent. Not
                ///< added to extra tokens
  Tensor weights;  ///< [B, *layout, H, W], written
  MaskedScore masked = MaskedScore::minus_infinity;
};

/// NN: output = scale * sum over the slots of weights * value. Masked slots are not read.
struct NeighborhoodNeighborhoodTensors {
  Tensor weights;      ///< [B, *layout, H, W]
  Tensor value;        ///< [B, *layout, G, D]
  Tensor extra_value;  ///< [B, N, G, D]; absent when N is 0
  Tensor output;       ///< [B, *layout, H, D], written
};

/// IN: grad_value = scale * sum over the queries (of all heads that share the key's head) of weights * grad_output.
struct InverseNeighborhoodTensors {
  Tensor weights;           ///< [B, *layout, H, W]
  Tensor grad_output;       ///< [B, *layout, H, D]
  Tensor grad_value;        ///< [B, *layout, G, D], written
  Tensor grad_extra_value;  ///< [B, N, G, D], written; absent when N is 0
};

/// grad_bias = sum over batch and tokens of grad_weights, slot by slot at the bias's index. In a fixed order: the same
/// bits in every run.
struct BiasGradientTensors {
  Tensor grad_weights;  ///< [B, *layout, H, W]
  Tensor grad_bias;     ///< [H, 2*window-1 per axis], written
};

/// Checks every tensor against the plan, then computes, as `run` of attention.h does. On any error nothing is written.
VICINAL_API void run(const Plan& plan, const PointwiseNeighborhoodTensors& tensors, const Execution& execution = {});
VICINAL_API void run(const Plan& plan, const NeighborhoodNeighborhoodTensors& tensors, const Execution& execution = {});
VICINAL_API void run(const Plan& plan, const InverseNeighborhoodTensors& tensors, const Execution& execution = {});
VICINAL_API void run(const Plan& plan, const BiasGradientTensors& tensors, const Execution& execution = {});

}  // namespace vicinal
