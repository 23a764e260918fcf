#pragma once

// What the results of a problem should be.

#include <vector>

#include "check/test_tensor.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal::check {

/// The shapes of the tensors of a problem; each gradient is shaped like what it is the gradient of.
struct Shapes {
  explicit Shapes(const Problem& problem);

  Shape query, key, value, extra_key, extra_value, output, logsumexp;
  Shape weights;
  Shape bias;  ///< [heads, 2 * window - 1 per axis]: no batch, every entry a row
};

/// The inputs of all operations, dense in the order of their dimensions.
struct Inputs {
  std::vector<double> query, key, value, extra_key, extra_value, grad_output;
  std::vector<double> grad_logsumexp;  ///< empty: not given
  std::vector<double> weights;
  std::vector<double> bias;  ///< empty: not given
};

/// The results of all operations, dense; those of others than the one that was asked for are empty. Both passes have
/// those of the forward pass.
struct Results {
  std::vector<double> output, logsumexp;
  std::vector<double> grad_query, grad_key, grad_value, grad_extra_key, grad_extra_value;
  std::vector<double> weights, grad_bias;
};

/// In float64, by the reference kernel.
Results exact_results(const Problem& problem, const Inputs& inputs, Operation operation);

/// Another computation of the same: query by query, the softmax written out, gradients scattered to the keys.
struct Straightforward {
  /// For fp16 and bf16 as one would write it in PyTorch in that precision: softmax in float32; probabilities, the
  /// gradients of probabilities and of scores, and all results rounded to the dtype. For others in float64.
  Results results;

  /// For each row of a result, the root of the sum of the squares of the terms that it sums up: how large it would be
  /// if the terms had random signs. Rows that are much smaller by cancellation are measured against this.
  Results magnitudes;
};
Straightforward straightforward_results(const Problem& problem, const Inputs& inputs, Operation operation);

}  // namespace vicinal::check
