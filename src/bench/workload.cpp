#include "bench/workload.h"

#include <cmath>

#include "core/tensors.h"
#include "vicinal/error.h"

namespace vicinal::bench {
namespace {

std::vector<std::int64_t> with_grid(const Problem& problem, std::initializer_list<std::int64_t> trailing) {
  std::vector<std::int64_t> shape{problem.batch};
  shape.insert(shape.end(), problem.layout.begin(), problem.layout.begin() + problem.rank);
  shape.insert(shape.end(), trailing);
  return shape;
}

Array random_array(const std::vector<std::int64_t>& shape, DType dtype, std::uint64_t seed, int threads) {
  Array array(shape, dtype);
  fill_random(array, seed, threads);
  return array;
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

Workload::Workload(const Plan& plan, std::int64_t copies, int threads) : plan_(plan) {
  const Problem& problem = plan.problem;
  if (problem.device.type != DeviceType::cpu) {
    throw Error(ErrorKind::unsupported, "only problems on the CPU can be measured by this build");
  }
  const bool backward = plan.operation == Operation::backward;
  const Shapes shapes(problem);
  for (std::int64_t c = 0; c < copies; ++c) {
    Copy copy;
    auto seed = static_cast<std::uint64_t>(c) << 8;
    const auto fill = [&](Array& array, const std::vector<std::int64_t>& shape) {
      if (!shape.empty()) array = random_array(shape, problem.dtype, ++seed, threads);
    };
    fill(copy.query, shapes.query);
    fill(copy.key, shapes.key);
    fill(copy.value, shapes.value);
    fill(copy.extra_key, shapes.extra_key);
    fill(copy.extra_value, shapes.extra_value);
    copy.output = Array(shapes.output, problem.dtype);
    copy.logsumexp = Array(shapes.logsumexp, logsumexp_dtype(problem.dtype));
    if (backward) {
      fill(copy.grad_output, shapes.output);
      copy.grad_query = Array(shapes.query, problem.dtype);
      copy.grad_key = Array(shapes.key, problem.dtype);
      copy.grad_value = Array(shapes.value, problem.dtype);
      if (problem.extra_kv > 0) {
        copy.grad_extra_key = Array(shapes.extra_key, problem.dtype);
        copy.grad_extra_value = Array(shapes.extra_value, problem.dtype);
      }
    }
    copies_.push_back(std::move(copy));
  }
  execution_.threads = threads;
  if (backward) {
    const Plan forward = make_plan(problem, Operation::forward);
    Buffer workspace(forward.workspace_bytes);
    execution_.workspace = workspace.data();
    execution_.workspace_bytes = workspace.size();
    for (Copy& copy : copies_) vicinal::run(forward, forward_tensors(copy), execution_);
  }
  workspace_ = Buffer(plan.workspace_bytes);
  execution_.workspace = workspace_.data();
  execution_.workspace_bytes = workspace_.size();
}

void Workload::run(std::int64_t repetition) {
  Copy& copy = copies_[static_cast<std::size_t>(repetition) % copies_.size()];
  if (plan_.operation == Operation::forward) {
    vicinal::run(plan_, forward_tensors(copy), execution_);
  } else {
    vicinal::run(plan_, backward_tensors(copy), execution_);
  }
}

std::int64_t Workload::cold_copies(const Plan& plan, std::size_t cache_bytes) {
  const double others = std::ceil(2 * static_cast<double>(cache_bytes) / std::max(plan.cost.bytes, 1.0));
  return 1 + static_cast<std::int64_t>(std::min(others, 1000.0));
}

ForwardTensors Workload::forward_tensors(Copy& copy) {
  return {copy.query.tensor(),       copy.key.tensor(),    copy.value.tensor(),    copy.extra_key.tensor(),
          copy.extra_value.tensor(), copy.output.tensor(), copy.logsumexp.tensor()};
}

BackwardTensors Workload::backward_tensors(Copy& copy) {
  BackwardTensors tensors;
  tensors.query = copy.query.tensor();
  tensors.key = copy.key.tensor();
  tensors.value = copy.value.tensor();
  tensors.extra_key = copy.extra_key.tensor();
  tensors.extra_value = copy.extra_value.tensor();
  tensors.output = copy.output.tensor();
  tensors.logsumexp = copy.logsumexp.tensor();
  tensors.grad_output = copy.grad_output.tensor();
  tensors.grad_query = copy.grad_query.tensor();
  tensors.grad_key = copy.grad_key.tensor();
  tensors.grad_value = copy.grad_value.tensor();
  tensors.grad_extra_key = copy.grad_extra_key.tensor();
  tensors.grad_extra_value = copy.grad_extra_value.tensor();
  return tensors;
}

}  // namespace vicinal::bench
