#include "bench/problem_arrays.h"

#include <initializer_list>

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
      logsumexp(with_grid(problem, {problem.heads})) {
  if (problem.extra_kv == 0) return;
  extra_key = {problem.batch, problem.extra_kv, problem.heads_kv, problem.dim};
  extra_value = {problem.batch, problem.extra_kv, problem.heads_kv, problem.dim_v};
}

void ProblemArrays::allocate_results(const Problem& problem, Operation operation) {
  const Shapes shapes(problem);
  const auto allocate = [&](Array& array, const std::vector<std::int64_t>& shape) {
    if (!shape.empty()) array = Array(shape, problem.dtype);
  };
  if (operation == Operation::forward) {
    allocate(output, shapes.output);
    logsumexp = Array(shapes.logsumexp, logsumexp_dtype(problem.dtype));
  } else {
    allocate(grad_query, shapes.query);
    allocate(grad_key, shapes.key);
    allocate(grad_value, shapes.value);
    allocate(grad_extra_key, shapes.extra_key);
    allocate(grad_extra_value, shapes.extra_value);
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

void run(const Plan& plan, ProblemArrays& arrays, Buffer& workspace, int threads) {
  Execution execution;
  execution.workspace = workspace.data();
  execution.workspace_bytes = workspace.size();
  execution.threads = threads;
  if (plan.operation == Operation::forward) {
    vicinal::run(plan, arrays.forward_tensors(), execution);
  } else {
    vicinal::run(plan, arrays.backward_tensors(), execution);
  }
}

}  // namespace vicinal::bench
