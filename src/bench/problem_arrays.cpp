#include "bench/problem_arrays.h"

#include <algorithm>
#include <initializer_list>

#include "core/slots.h"
#include "core/tensors.h"

namespace vicinal::bench {
namespace {

std::vector<std::int64_t> with_grid(const Problem& problem, std::initializer_list<std::int64_t> trailing) {
  std::vector<std::int64_t> shape{problem.batch};
  shape.insert(shape.end(), problem.layout.begin(), problem.layout.begin() + problem.rank);
  shape.insert(shape.end(), trailing);
  return shape;
}

}  // namespace

Shapes::Shapes(const Problem& problem)
    : query(with_grid(problem, {problem.heads, problem.dim})),
      key(with_grid(problem, {problem.heads_kv, problem.dim})),
      value(with_grid(problem, {problem.heads_kv, problem.dim_v})),
      output(with_grid(problem, {problem.heads, problem.dim_v})),
      logsumexp(with_grid(problem, {problem.heads})),
      weights(with_grid(problem, {problem.heads, slots_per_query(problem)})),
      bias{problem.heads} {
  for (int a = 0; a < problem.rank; ++a) bias.push_back(2 * problem.window[a] - 1);
  if (problem.extra_kv == 0) return;
  extra_key = {problem.batch, problem.extra_kv, problem.heads_kv, problem.dim};
  extra_value = {problem.batch, problem.extra_kv, problem.heads_kv, problem.dim_v};
}

std::size_t bytes_behind_line(const Problem& problem) {
  if (problem.alignment == kMostAlignment) return 0;
  return std::max(static_cast<std::size_t>(problem.alignment), size_of(problem.dtype));
}

void ProblemArrays::allocate_results(const Problem& problem, Operation operation) {
  const Shapes shapes(problem);
  const auto allocate = [&](Array& array, const std::vector<std::int64_t>& shape) {
    if (!shape.empty()) array = Array(shape, problem.dtype, problem.device, bytes_behind_line(problem));
  };
  switch (operation) {
    case Operation::forward:
      allocate(output, shapes.output);
      logsumexp = Array(shapes.logsumexp, logsumexp_dtype(problem.dtype), problem.device);
      return;
    case Operation::backward:
      allocate(grad_query, shapes.query);
      allocate(grad_key, shapes.key);
      allocate(grad_value, shapes.value);
      allocate(grad_extra_key, shapes.extra_key);
      allocate(grad_extra_value, shapes.extra_value);
      return;
    case Operation::pointwise_neighborhood: allocate(weights, shapes.weights); return;
    case Operation::neighborhood_neighborhood: allocate(output, shapes.output); return;
    case Operation::inverse_neighborhood:
      allocate(grad_value, shapes.value);
      allocate(grad_extra_value, shapes.extra_value);
      return;
    case Operation::bias_gradient: allocate(grad_bias, shapes.bias); return;
  }
}

ForwardTensors ProblemArrays::forward_tensors() {
  return {.query = query.tensor(),
          .key = key.tensor(),
          .value = value.tensor(),
          .extra_key = extra_key.tensor(),
          .extra_value = extra_value.tensor(),
          .output = output.tensor(),
          .logsumexp = logsumexp.tensor()};
}

BackwardTensors ProblemArrays::backward_tensors() {
  return {.query = query.tensor(),
          .key = key.tensor(),
          .value = value.tensor(),
          .extra_key = extra_key.tensor(),
          .extra_value = extra_value.tensor(),
          .output = output.tensor(),
          .logsumexp = logsumexp.tensor(),
          .grad_output = grad_output.tensor(),
          .grad_logsumexp = grad_logsumexp.tensor(),
          .grad_query = grad_query.tensor(),
          .grad_key = grad_key.tensor(),
          .grad_value = grad_value.tensor(),
          .grad_extra_key = grad_extra_key.tensor(),
          .grad_extra_value = grad_extra_value.tensor()};
}

PointwiseNeighborhoodTensors ProblemArrays::pointwise_neighborhood_tensors() {
  return {.query = query.tensor(),
          .key = key.tensor(),
          .extra_key = extra_key.tensor(),
          .bias = bias.tensor(),
          .weights = weights.tensor()};
}

NeighborhoodNeighborhoodTensors ProblemArrays::neighborhood_neighborhood_tensors() {
  return {.weights = weights.tensor(),
          .value = value.tensor(),
          .extra_value = extra_value.tensor(),
          .output = output.tensor()};
}

InverseNeighborhoodTensors ProblemArrays::inverse_neighborhood_tensors() {
  return {.weights = weights.tensor(),
          .grad_output = grad_output.tensor(),
          .grad_value = grad_value.tensor(),
          .grad_extra_value = grad_extra_value.tensor()};
}

BiasGradientTensors ProblemArrays::bias_gradient_tensors() {
  return {.grad_weights = weights.tensor(), .grad_bias = grad_bias.tensor()};
}

void run(const Plan& plan, ProblemArrays& arrays, Buffer& workspace, int threads, void* stream) {
  Execution execution;
  execution.stream = stream;
  execution.workspace = workspace.data();
  execution.workspace_bytes = workspace.size();
  execution.threads = threads;
  switch (plan.operation) {
    case Operation::forward: return vicinal::run(plan, arrays.forward_tensors(), execution);
    case Operation::backward: return vicinal::run(plan, arrays.backward_tensors(), execution);
    case Operation::pointwise_neighborhood:
      return vicinal::run(plan, arrays.pointwise_neighborhood_tensors(), execution);
    case Operation::neighborhood_neighborhood:
      return vicinal::run(plan, arrays.neighborhood_neighborhood_tensors(), execution);
    case Operation::inverse_neighborhood: return vicinal::run(plan, arrays.inverse_neighborhood_tensors(), execution);
    case Operation::bias_gradient: return vicinal::run(plan, arrays.bias_gradient_tensors(), execution);
  }
}

}  // namespace vicinal::bench
