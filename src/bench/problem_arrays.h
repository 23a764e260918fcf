#pragma once

// All arrays of a problem, forward and backward.

#include <vector>

#include "bench/array.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal::bench {

/// Shapes as include/vicinal/attention.h gives them; empty for extra tokens where there are none.
struct Shapes {
  explicit Shapes(const Problem& problem);

  std::vector<std::int64_t> query, key, value, extra_key, extra_value, output, logsumexp;
};

/// An array without a shape is an absent tensor.
struct ProblemArrays {
  Array query, key, value, extra_key, extra_value;
  Array output, logsumexp, grad_output, grad_logsumexp;
  Array grad_query, grad_key, grad_value, grad_extra_key, grad_extra_value;

  /// Allocates what a pass of this operation writes.
  void allocate_results(const Problem& problem, Operation operation);

  [[nodiscard]] ForwardTensors forward_tensors();
  [[nodiscard]] BackwardTensors backward_tensors();
};

/// Runs a plan on the arrays it needs; its results must be allocated. `workspace` has plan.workspace_bytes.
void run(const Plan& plan, ProblemArrays& arrays, Buffer& workspace, int threads);

}  // namespace vicinal::bench
