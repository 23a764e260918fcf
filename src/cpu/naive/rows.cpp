// The registry rows of the naive CPU kernels.

#include <fmt/format.h>

#include "core/sizes.h"
#include "core/tiling.h"
#include "cpu/naive/attention.h"
#include "cpu/naive/numbers.h"
#include "cpu/naive/operators.h"
#include "plan/cost.h"
#include "plan/registry.h"

namespace vicinal {
namespace {

Status supports(const Problem& /*grid*/) { return {}; }

// Of attention; the rules of the unfused operators say it already.
Status weights_fit(const Problem& grid) {
  const double most = static_cast<double>(kMostElements) / 4;  // two arrays of weights and all else, with room to spare
  if (weight_elements(grid) <= most) return {};
  return Status::refuse(
      fmt::format("needs {:.3g} weights in its workspace; this kernel: at most {:.3g}", weight_elements(grid), most));
}

Tiling tiling(const Problem& /*grid*/) { return {}; }

Status accepts(const Problem& /*grid*/, const Tiling& forced) {
  if (forced == Tiling{}) return {};
  return Status::refuse("works on one pair at a time; allowed: every extent of the tiling 1");
}

// Passes over the weights in the workspace. Forward: written by PN, read and written by softmax, read by NN. Backward:
// probabilities and the gradients of scores likewise, both read by IN, the latter by NN too.
constexpr double weight_passes(Operation operation) {
  if (operation == Operation::forward) return 4;
  return operation == Operation::backward ? 9 : 0;
}

template <Operation kOperation>
Cost cost(const Problem& grid, const Tiling& /*tiling*/) {
  constexpr double kPerCycle = 1.0;  // measured: head dim 32, without SIMD beyond SSE2
  const double work = multiply_adds(grid, kOperation, needed_pairs(grid));
  const double bytes = compulsory_bytes(grid, kOperation) + weight_passes(kOperation) * weight_elements(grid) *
                                                                static_cast<double>(cpu::number_bytes(grid.dtype));
  return {work, work, bytes, cpu_seconds(work, kPerCycle, bytes)};
}

/// What the rows have in common.
template <Operation kOperation>
constexpr KernelRow row(std::string_view name, std::size_t (*workspace)(const Problem&, const Tiling&)) noexcept {
  return {
      .name = name,
      .backend = "naive",
      .operation = kOperation,
      .device = DeviceType::cpu,
      .supports = is_unfused(kOperation) ? supports : weights_fit,
      .tiling = tiling,
      .accepts = accepts,
      .cost = cost<kOperation>,
      .workspace = workspace,
  };
}

/// A row with what it launches.
template <class Launch>
constexpr KernelRow launching(KernelRow row, Launch KernelRow::* member, Launch launch) noexcept {
  row.*member = launch;
  return row;
}

}  // namespace

constinit const KernelRow kNaiveCpuForward =
    launching(row<Operation::forward>("naive_cpu_forward", cpu::naive_forward_workspace), &KernelRow::forward,
              cpu::run_naive_forward);

constinit const KernelRow kNaiveCpuBackward =
    launching(row<Operation::backward>("naive_cpu_backward", cpu::naive_backward_workspace), &KernelRow::backward,
              cpu::run_naive_backward);

constinit const KernelRow kNaiveCpuPointwiseNeighborhood =
    launching(row<Operation::pointwise_neighborhood>("naive_cpu_pointwise_neighborhood", cpu::key_rows_workspace),
              &KernelRow::pointwise_neighborhood, cpu::run_pointwise_neighborhood);

constinit const KernelRow kNaiveCpuNeighborhoodNeighborhood =
    launching(row<Operation::neighborhood_neighborhood>("naive_cpu_neighborhood_neighborhood", cpu::key_rows_workspace),
              &KernelRow::neighborhood_neighborhood, cpu::run_neighborhood_neighborhood);

constinit const KernelRow kNaiveCpuInverseNeighborhood =
    launching(row<Operation::inverse_neighborhood>("naive_cpu_inverse_neighborhood", cpu::query_rows_workspace),
              &KernelRow::inverse_neighborhood, cpu::run_inverse_neighborhood);

constinit const KernelRow kNaiveCpuBiasGradient =
    launching(row<Operation::bias_gradient>("naive_cpu_bias_gradient", cpu::bias_gradient_workspace),
              &KernelRow::bias_gradient, cpu::run_bias_gradient);

}  // namespace vicinal
