#include "bench/workload.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace vicinal::bench {
namespace {

/// Inputs of a forward pass, and the gradient of the output; for unfused operations also the weights, unless they are
/// the result, and for PN a bias.
ProblemArrays random_arrays(const Problem& problem, Operation operation, std::uint64_t seed, int threads) {
  const Shapes shapes(problem);
  ProblemArrays arrays;
  const auto fill = [&](Array& array, const std::vector<std::int64_t>& shape) {
    if (shape.empty()) return;
    array = Array(shape, problem.dtype);
    fill_random(array, seed++, threads);
    if (problem.device.type != DeviceType::cpu) array = array.copy_on(problem.device);
  };
  fill(arrays.query, shapes.query);
  fill(arrays.key, shapes.key);
  fill(arrays.value, shapes.value);
  fill(arrays.extra_key, shapes.extra_key);
  fill(arrays.extra_value, shapes.extra_value);
  fill(arrays.grad_output, shapes.output);
  if (operation == Operation::pointwise_neighborhood) {
    fill(arrays.bias, shapes.bias);
  } else if (is_unfused(operation)) {
    fill(arrays.weights, shapes.weights);
  }
  return arrays;
}

}  // namespace

Workload::Workload(const Plan& plan, std::int64_t copies, int threads)
    : plan_(plan), threads_(threads), workspace_(plan.workspace_bytes, plan.problem.device) {
  const Problem& problem = plan.problem;
  constexpr std::uint64_t kSeedsPerCopy = 16;
  for (std::int64_t copy = 0; copy < copies; ++copy) {
    const std::uint64_t seed = kSeedsPerCopy * static_cast<std::uint64_t>(copy);
    ProblemArrays arrays = random_arrays(problem, plan.operation, seed, threads);
    if (plan.operation == Operation::backward) {
      const Plan forward = make_plan(problem, Operation::forward);
      arrays.allocate_results(problem, Operation::forward);
      Buffer workspace(forward.workspace_bytes, problem.device);
      bench::run(forward, arrays, workspace, threads);
    }
    arrays.allocate_results(problem, plan.operation);
    copies_.push_back(std::move(arrays));
  }
}

void Workload::use(const Plan& plan) {
  plan_ = plan;
  if (plan.workspace_bytes > workspace_.size()) workspace_ = Buffer(plan.workspace_bytes, plan.problem.device);
}

void Workload::run(std::int64_t repetition) {
  bench::run(plan_, copies_[static_cast<std::size_t>(repetition) % copies_.size()], workspace_, threads_);
}

std::int64_t Workload::cold_copies(const Plan& plan, std::size_t cache_bytes) {
  constexpr double kMostCopies = 1000;  // of problems so small that their memory is no matter
  const double others = std::ceil(2 * static_cast<double>(cache_bytes) / std::max(plan.cost.bytes, 1.0));
  return 1 + static_cast<std::int64_t>(std::min(others, kMostCopies));
}

}  // namespace vicinal::bench
