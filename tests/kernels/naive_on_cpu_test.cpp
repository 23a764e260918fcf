// The naive CUDA kernels on the CPU, over the random sweep: index arithmetic, masks, types and the composition of whole
// passes, all but what only a GPU can show.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "check/case.h"
#include "check/check.h"
#include "cuda/naive/attention.h"
#include "cuda/naive/tiled.h"
#include "naive_on_cpu.h"
#include "plan/registry.h"
#include "rows.h"

namespace vicinal {
namespace {

using namespace cuda::naive;

Status supports_all(const Problem&) { return {}; }
Tiling no_tiling(const Problem&) { return {}; }
Status accepts_none(const Problem&, const Tiling&) { return Status::refuse("has no tiles"); }
Cost no_cost(const Problem&, const Tiling&) { return {}; }
std::size_t no_workspace(const Problem&, const Tiling&) { return 0; }

template <auto kOperator, class Views>
void launch(const Problem& grid, const Tiling&, const Views& tensors, const Execution& execution) {
  (host_operators(grid.dtype).*kOperator)(grid, tensors, execution.stream);
}

KernelRow row(std::string_view name, Operation operation) {
  return {.name = name,
          .backend = "naive",
          .operation = operation,
          .device = DeviceType::cpu,
          .supports = supports_all,
          .tiling = no_tiling,
          .accepts = accepts_none,
          .cost = no_cost,
          .workspace = no_workspace};
}

KernelRow forward_row() {
  KernelRow result = row("forward", Operation::forward);
  result.workspace = [](const Problem& grid, const Tiling&) { return forward_workspace(grid); };
  result.forward = [](const Problem& grid, const Tiling&, const ForwardViews& tensors, const Execution& execution) {
    forward(host_operators(grid.dtype), grid, tensors, execution);
  };
  return result;
}

KernelRow backward_row() {
  KernelRow result = row("backward", Operation::backward);
  result.workspace = [](const Problem& grid, const Tiling&) { return backward_workspace(grid); };
  result.backward = [](const Problem& grid, const Tiling&, const BackwardViews& tensors, const Execution& execution) {
    backward(host_operators(grid.dtype), grid, tensors, execution);
  };
  return result;
}

KernelRow pointwise_row() {
  KernelRow result = row("PN", Operation::pointwise_neighborhood);
  result.pointwise_neighborhood = launch<&Operators::pointwise_neighborhood, PointwiseNeighborhoodViews>;
  return result;
}

KernelRow tiled_row() {
  KernelRow result = row("tiled PN", Operation::pointwise_neighborhood);
  result.supports = tiled_supports;
  result.tiling = tiled_tiling;
  result.accepts = tiled_accepts;
  result.pointwise_neighborhood = [](const Problem& grid, const Tiling& tiling, const PointwiseNeighborhoodViews& t,
                                     const Execution& execution) {
    host_operators(grid.dtype).tiled_pointwise_neighborhood(grid, tiling, t, execution.stream);
  };
  return result;
}

KernelRow neighborhood_row() {
  KernelRow result = row("NN", Operation::neighborhood_neighborhood);
  result.neighborhood_neighborhood = launch<&Operators::neighborhood_neighborhood, NeighborhoodNeighborhoodViews>;
  return result;
}

KernelRow inverse_row() {
  KernelRow result = row("IN", Operation::inverse_neighborhood);
  result.inverse_neighborhood = launch<&Operators::inverse_neighborhood, InverseNeighborhoodViews>;
  return result;
}

KernelRow bias_row() {
  KernelRow result = row("bias gradient", Operation::bias_gradient);
  result.bias_gradient = launch<&Operators::bias_gradient, BiasGradientViews>;
  return result;
}

void expect_sweep_passes(const KernelRow& kernel, int times = 1) {
  const check::Sweep sweep{.seed = 99, .size = VICINAL_SWEEP_EFFORT};
  const auto cases = static_cast<std::int64_t>(200 * VICINAL_SWEEP_EFFORT) * times;
  int ran = 0;
  int failed = 0;
  for (std::int64_t number = 0; number < cases && failed < 5; ++number) {
    const check::Case c = check::random_case(sweep, number);
    const check::Report report = check::check_case(c, kernel);
    ran += report.ran();
    failed += !report.passed();
    EXPECT_TRUE(report.passed()) << fmt::format("case {} on {}: {}\n  {}", number, kernel.name, to_string(c.problem),
                                                fmt::join(report.failures, "\n  "));
  }
  EXPECT_GE(ran, cases / (2 * times));
}

TEST(NaiveOnCpu, ForwardMatchesTheOracle) { expect_sweep_passes(forward_row()); }
TEST(NaiveOnCpu, BackwardMatchesTheOracle) { expect_sweep_passes(backward_row()); }
TEST(NaiveOnCpu, PointwiseNeighborhoodMatchesTheOracle) { expect_sweep_passes(pointwise_row()); }
TEST(NaiveOnCpu, NeighborhoodNeighborhoodMatchesTheOracle) { expect_sweep_passes(neighborhood_row()); }
TEST(NaiveOnCpu, InverseNeighborhoodMatchesTheOracle) { expect_sweep_passes(inverse_row()); }
TEST(NaiveOnCpu, BiasGradientMatchesTheOracle) { expect_sweep_passes(bias_row()); }

// Most random problems do not have the shape that tiles are for, and are refused.
TEST(NaiveOnCpu, TiledPointwiseNeighborhoodMatchesTheOracle) { expect_sweep_passes(tiled_row(), 20); }

}  // namespace
}  // namespace vicinal
