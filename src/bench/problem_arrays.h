#pragma once

// All arrays of a problem, for every operation.

#include <vector>

#include "bench/array.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"
#include "vicinal/unfused.h"

namespace vicinal::bench {

/// Shapes as include/vicinal/attention.h and unfused.h give them; empty for extra tokens where there are none.
struct Shapes {
  explicit Shapes(const Problem& problem);

  std::vector<std::int64_t> query, key, value, extra_key, extra_value, output, logsumexp, weights, bias;
};

/// Bytes behind a cache line at which arrays begin, so that the problem's alignment is that of all, and no larger.
std::size_t bytes_behind_line(const Problem& problem);

/// An array without a shape is an absent tensor.
struct ProblemArrays {
  Array query, key, value, extra_key, extra_value;
  Array output, logsumexp, grad_output, grad_logsumexp;
  Array grad_query, grad_key, grad_value, grad_extra_key, grad_extra_value;
  Array weights, bias, grad_bias;

  /// Allocates what this operation writes.
  void allocate_results(const Problem& problem, Operation operation);

  [[nodiscard]] ForwardTensors forward_tensors();
  [[nodiscard]] BackwardTensors backward_tensors();
  [[nodiscard]] PointwiseNeighborhoodTensors pointwise_neighborhood_tensors();
  [[nodiscard]] NeighborhoodNeighborhoodTensors neighborhood_neighborhood_tensors();
  [[nodiscard]] InverseNeighborhoodTensors inverse_neighborhood_tensors();
  [[nodiscard]] BiasGradientTensors bias_gradient_tensors();
};

/// Runs a plan on the arrays it needs; its results must be allocated. `workspace` has plan.workspace_bytes; `stream` is
/// a cudaStream_t, on a device.
void run(const Plan& plan, ProblemArrays& arrays, Buffer& workspace, int threads, void* stream = nullptr);

}  // namespace vicinal::bench
