#pragma once

// delta = rowsum(dO O) - dLSE, which the fused Hopper backward passes subtract from dP, dS = P (dP - delta).

#include "core/view.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

/// To a view like `delta_view` (workspace_views.h).
void compute_delta(const Problem& grid, const BackwardViews& tensors, const View& delta, void* stream);

/// Passes over keys keep weights, at most 1, times 2^weight_shift as operands of products: in fp16 those below 2^-14
/// would lose digits, and a key that every query hardly sees would have nothing else.
constexpr int weight_shift(DType dtype) { return dtype == DType::fp16 ? 11 : 0; }

/// The same, and logsumexp, as a loop over tiles wants them, shift being weight_shift:
/// P 2^shift = exp2(log2(e) scale S + weight_bias), dS = P 2^shift (2^-shift dP + gradient_bias).
/// weight_bias = shift - log2(e) logsumexp, gradient_bias = -2^-shift delta. Both views are like delta's.
void compute_biases(const Problem& grid, const BackwardViews& tensors, const View& weight_bias,
                    const View& gradient_bias, void* stream);

}  // namespace vicinal::cuda::sm90
