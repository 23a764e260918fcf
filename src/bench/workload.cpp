#include "bench/workload.h"

#include <algorithm>
#include <cmath>

namespace vicinal::bench {
namespace {

/// Inputs of a forward pass, and the gradient of the output; for unfused operations also the weights, unless they are
/// the result, and for PN a bias. As many copies of them, with the same values: filling takes far longer than a copy.
std::vector<ProblemArrays> random_arrays(const Problem& problem, Operation operation, std::int64_t copies,
                                         int threads) {
  const Shapes shapes(problem);
  std::vector<ProblemArrays> all(static_cast<std::size_t>(copies));
  std::uint64_t seed = 0;
  Array values;  // of one array after the other, most of which have one shape: fresh pages take time too
  const auto fill = [&](Array ProblemArrays::* member, const std::vector<std::int64_t>& shape) {
    if (shape.empty()) return;
    if (values.shape != shape) values = Array(shape, problem.dtype);
    fill_random(values, seed++, threads);
    const Array* source = &values;
    for (ProblemArrays& arrays : all) {
      arrays.*member = source->copy_on(problem.device, bytes_behind_line(problem));
      source = &(arrays.*member);
    }
  };
  fill(&ProblemArrays::query, shapes.query);
  fill(&ProblemArrays::key, shapes.key);
  fill(&ProblemArrays::value, shapes.value);
  fill(&ProblemArrays::extra_key, shapes.extra_key);
  fill(&ProblemArrays::extra_value, shapes.extra_value);
  fill(&ProblemArrays::grad_output, shapes.output);
  if (operation == Operation::pointwise_neighborhood) {
    fill(&ProblemArrays::bias, shapes.bias);
  } else if (is_unfused(operation)) {
    fill(&ProblemArrays::weights, shapes.weights);
  }
  return all;
}

}  // namespace

Workload::Workload(const Plan& plan, std::int64_t copies, int threads)
    : plan_(plan),
      threads_(threads),
      workspace_(plan.workspace_bytes, plan.problem.device),
      copies_(random_arrays(plan.problem, plan.operation, copies, threads)) {
  const Problem& problem = plan.problem;
  for (ProblemArrays& arrays : copies_) {
    if (plan.operation == Operation::backward) {
      const Plan forward = make_plan(problem, Operation::forward);
      arrays.allocate_results(problem, Operation::forward);
      Buffer workspace(forward.workspace_bytes, problem.device);
      bench::run(forward, arrays, workspace, threads);
    }
    arrays.allocate_results(problem, plan.operation);
  }
}

void Workload::use(const Plan& plan) {
  plan_ = plan;
  if (plan.workspace_bytes > workspace_.size()) workspace_ = Buffer(plan.workspace_bytes, plan.problem.device);
}

void Workload::run(std::int64_t repetition, void* stream) {
  bench::run(plan_, copies_[static_cast<std::size_t>(repetition) % copies_.size()], workspace_, threads_, stream);
}

std::int64_t Workload::cold_copies(const Plan& plan, std::size_t cache_bytes) {
  constexpr double kMostCopies = 1000;  // of problems so small that their memory is no matter
  const double others = std::ceil(2 * static_cast<double>(cache_bytes) / std::max(plan.cost.bytes, 1.0));
  return 1 + static_cast<std::int64_t>(std::min(others, kMostCopies));
}

}  // namespace vicinal::bench
