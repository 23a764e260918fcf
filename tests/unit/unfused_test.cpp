// The unfused operators: what is refused, in which words; and that the checks catch kernels that are wrong.

#include "vicinal/unfused.h"

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "check/check.h"
#include "check/compare.h"
#include "core/slots.h"
#include "plan/registry.h"
#include "vicinal/error.h"

namespace vicinal {
namespace {

constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();

Problem small_problem() {
  Problem p;
  p.rank = 2;
  p.layout = {4, 5, 1};
  p.window = {3, 2, 1};
  p.causal = {true, false, false};
  p.batch = 2;
  p.heads = 4;
  p.heads_kv = 2;
  p.dim = p.dim_v = 8;
  p.extra_kv = 3;
  return p;
}

TEST(UnfusedProblem, HasOneHeadDim) {
  Problem p = small_problem();
  p.dim_v = 6;
  EXPECT_EQ(validate(p, Operation::forward).reason(), "");
  EXPECT_EQ(validate(p, Operation::pointwise_neighborhood).reason(),
            "dim_v = 6 with dim = 8; allowed for pointwise_neighborhood: dim_v = dim");
  EXPECT_THROW(make_plan(p, Operation::inverse_neighborhood), Error);
}

TEST(UnfusedProblem, HasWeightsThatCanBeIndexed) {
  const auto reason = [](const std::function<void(Problem&)>& change) {
    Problem p = small_problem();
    change(p);
    EXPECT_EQ(validate(p).reason(), "");
    return validate(p, Operation::bias_gradient).reason();
  };
  EXPECT_EQ(reason([](Problem&) {}), "");
  EXPECT_EQ(reason([](Problem& p) { p.layout = p.window = {1 << 24, 1 << 24, 1}, p.heads = 2; }),
            "weights with shape [2, 16777216, 16777216, 2, 16777216 * 16777216 + 3] has too many elements for 64-bit "
            "indices; allowed: at most 1152921504606846975");
  EXPECT_NE(reason([](Problem& p) { p.rank = 1, p.layout = p.window = {kHuge / 1024, 1, 1}; }), "");
  EXPECT_NE(reason([](Problem& p) { p.extra_kv = kHuge / 1024; }), "");
}

TEST(Operations, HaveDistinctNames) {
  std::set<std::string_view> names;
  for (const Operation operation : kOperations) {
    names.insert(name_of(operation));
    EXPECT_EQ(operation_named(name_of(operation)), operation);
  }
  EXPECT_EQ(operation_named("sideways"), std::nullopt);
  EXPECT_EQ(names.size(), kOperations.size());
  EXPECT_EQ(name_of(Operation::neighborhood_neighborhood), "neighborhood_neighborhood");
  EXPECT_FALSE(is_unfused(Operation::backward));
  EXPECT_TRUE(is_unfused(Operation::pointwise_neighborhood));
  EXPECT_EQ(validate(small_problem(), static_cast<Operation>(9)).reason(),
            "operation = 9; allowed: those of Operation");
}

TEST(Operations, AllArePlannedByTheNaiveBackend) {
  for (const Operation operation : kOperations) {
    EXPECT_EQ(make_plan(small_problem(), operation, {.backend = "naive", .tiling = {}}).kernel->backend, "naive");
  }
}

/// Contiguous tensors for the small problem, run on the naive kernels.
class UnfusedTensors : public testing::Test {
 protected:
  Tensor make(std::vector<std::int64_t> sizes) {
    const auto count = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
    memory_.emplace_back(static_cast<std::size_t>(count), 0.25F);
    return contiguous(memory_.back().data(), sizes);
  }

  Tensor rows(std::int64_t heads, std::int64_t row = 8) { return make({2, 4, 5, heads, row}); }
  Tensor extra() { return make({2, 3, 2, 8}); }
  Tensor bias() { return make({4, 5, 3}); }

  PointwiseNeighborhoodTensors pointwise() {
    return {.query = rows(4), .key = rows(2), .extra_key = extra(), .bias = bias(), .weights = rows(4, 9)};
  }

  template <class Tensors>
  static std::string error_of(Operation operation, const Tensors& tensors, const Problem& p = small_problem()) {
    const Plan plan = make_plan(p, operation);
    struct alignas(64) Line {
      std::byte bytes[64];
    };
    std::vector<Line> workspace(plan.workspace_bytes / sizeof(Line) + 1);
    try {
      run(plan, tensors, {.workspace = workspace.data(), .workspace_bytes = plan.workspace_bytes});
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
      return error.what();
    }
  }

  std::string pointwise_error(const std::function<void(PointwiseNeighborhoodTensors&)>& change) {
    PointwiseNeighborhoodTensors t = pointwise();
    change(t);
    return error_of(Operation::pointwise_neighborhood, t);
  }

 private:
  std::vector<std::vector<float>> memory_;
};

TEST_F(UnfusedTensors, AcceptedAsTheyShouldBe) {
  EXPECT_EQ(pointwise_error([](auto&) {}), "");
  EXPECT_EQ(pointwise_error([](auto& t) { t.bias = {}; }), "");
  EXPECT_EQ(error_of(Operation::neighborhood_neighborhood,
                     NeighborhoodNeighborhoodTensors{rows(4, 9), rows(2), extra(), rows(4)}),
            "");
  EXPECT_EQ(
      error_of(Operation::inverse_neighborhood, InverseNeighborhoodTensors{rows(4, 9), rows(4), rows(2), extra()}), "");
  EXPECT_EQ(error_of(Operation::bias_gradient, BiasGradientTensors{rows(4, 9), bias()}), "");
}

TEST_F(UnfusedTensors, EveryOneHasItsShape) {
  EXPECT_EQ(pointwise_error([&](auto& t) { t.weights = rows(4, 6); }),
            "weights has shape [2, 4, 5, 4, 6]; allowed: [2, 4, 5, 4, 9], which is [batch, *layout, heads, "
            "prod(window) + extra_kv]");
  EXPECT_EQ(pointwise_error([&](auto& t) { t.bias = make({4, 3, 5}); }),
            "bias has shape [4, 3, 5]; allowed: [4, 5, 3], which is [heads, 2 * window - 1 per axis]");
  EXPECT_EQ(pointwise_error([&](auto& t) { t.key = rows(4); }),
            "key has shape [2, 4, 5, 4, 8]; allowed: [2, 4, 5, 2, 8], which is [batch, *layout, heads_kv, dim]");
  EXPECT_EQ(error_of(Operation::bias_gradient, BiasGradientTensors{rows(4, 9), {}}),
            "grad_bias is absent; allowed: a tensor");
}

TEST_F(UnfusedTensors, ABiasMayHaveAnyStridesButAnOverlappingGradientMayNot) {
  EXPECT_EQ(pointwise_error([&](auto& t) { std::swap(t.bias.strides[1], t.bias.strides[2]); }), "");
  EXPECT_EQ(pointwise_error([&](auto& t) { t.bias.strides = {0, 0, 0}; }), "");
  BiasGradientTensors t{rows(4, 9), bias()};
  t.grad_bias.strides[0] = 0;
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "grad_bias has stride 0 along dimension 0 of extent 4, so that its",
                      error_of(Operation::bias_gradient, t));
}

TEST_F(UnfusedTensors, WeightsAreContiguousAlongTheirSlots) {
  EXPECT_EQ(pointwise_error([](auto& t) { t.weights.strides[4] = 2; }),
            "weights has stride 2 along its last dimension; allowed: 1 (contiguous)");
}

TEST_F(UnfusedTensors, MaskedIsOneOfTwo) {
  EXPECT_EQ(pointwise_error([](auto& t) { t.masked = static_cast<MaskedScore>(2); }),
            "masked = 2; allowed: minus_infinity, zero");
}

TEST_F(UnfusedTensors, AreThoseOfTheOperationOfThePlan) {
  EXPECT_EQ(error_of(Operation::neighborhood_neighborhood, pointwise()),
            "plan is for the neighborhood_neighborhood pass, the tensors are of the pointwise_neighborhood pass; "
            "allowed: a pointwise_neighborhood plan");
}

TEST_F(UnfusedTensors, WithoutBatchEntriesTheGradientOfTheBiasIsZero) {
  Problem p = small_problem();
  p.batch = 0;
  Tensor gradient = bias();
  EXPECT_EQ(error_of(Operation::bias_gradient, BiasGradientTensors{make({0, 4, 5, 4, 9}), gradient}, p), "");
  const auto* data = static_cast<const float*>(gradient.data);
  EXPECT_EQ(std::count(data, data + 4 * 5 * 3, 0.0F), 4 * 5 * 3);
}

// --- kernels with a mistake put in -----------------------------------------------------------------------------------

check::Case small_case() {
  check::Case c;
  c.problem = small_problem();
  c.seed = 5;
  return c;
}

template <class Views>
using Kernel = void (*)(const Problem&, const Tiling&, const Views&, const Execution&);

std::string failures_of(const KernelRow& row, const check::Case& c = small_case()) {
  return fmt::format("{}", fmt::join(check::check_case(c, row).failures, "\n"));
}

std::string failures_of(Kernel<PointwiseNeighborhoodViews> kernel) {
  KernelRow row = kNaiveCpuPointwiseNeighborhood;
  row.pointwise_neighborhood = kernel;
  return failures_of(row);
}

std::string failures_of(Kernel<NeighborhoodNeighborhoodViews> kernel) {
  KernelRow row = kNaiveCpuNeighborhoodNeighborhood;
  row.neighborhood_neighborhood = kernel;
  return failures_of(row);
}

float& element(const View& view, std::int64_t offset) { return static_cast<float*>(view.data)[offset]; }

TEST(CheckUnfused, PassesTheNaiveKernels) {
  for (const KernelRow* row : {&kNaiveCpuPointwiseNeighborhood, &kNaiveCpuNeighborhoodNeighborhood,
                               &kNaiveCpuInverseNeighborhood, &kNaiveCpuBiasGradient}) {
    EXPECT_EQ(failures_of(*row), "") << row->name;
    check::Case without = small_case();
    without.problem.batch = 0;
    without.problem.extra_kv = 0;
    EXPECT_EQ(failures_of(*row, without), "") << row->name;
  }
}

TEST(CheckUnfused, CatchesMaskedSlotsThatAreNotMinusInfinity) {
  const auto failures = failures_of(
      [](const Problem& grid, const Tiling& tiling, const PointwiseNeighborhoodViews& t, const Execution& execution) {
        PointwiseNeighborhoodViews zeros = t;
        zeros.masked = MaskedScore::zero;
        kNaiveCpuPointwiseNeighborhood.pointwise_neighborhood(grid, tiling, zeros, execution);
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "planned tiling, weights at [0, 0, 0, 0]: the relative error of the row is inf", failures);
}

TEST(CheckUnfused, CatchesAMirroredBias) {
  const auto failures = failures_of(
      [](const Problem& grid, const Tiling& tiling, const PointwiseNeighborhoodViews& t, const Execution& execution) {
        PointwiseNeighborhoodViews mirrored = t;
        mirrored.bias.data = static_cast<float*>(t.bias.data) + (2 * grid.window[2] - 2) * t.bias.axis_stride[2];
        mirrored.bias.axis_stride[2] = -t.bias.axis_stride[2];
        kNaiveCpuPointwiseNeighborhood.pointwise_neighborhood(grid, tiling, mirrored, execution);
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "planned tiling, weights: the relative error is", failures);
}

TEST(CheckUnfused, CatchesSlotsInAnotherOrder) {
  const auto failures = failures_of([](const Problem& grid, const Tiling& tiling,
                                       const NeighborhoodNeighborhoodViews& t, const Execution& execution) {
    kNaiveCpuNeighborhoodNeighborhood.neighborhood_neighborhood(grid, tiling, t, execution);
    // The last query swaps the weights of two slots that both have a key.
    const std::int64_t output = t.output.offset(1, 0, 3, 4, 3), weights = t.weights.offset(1, 0, 3, 4, 3);
    const double difference = element(t.weights, weights + 1) - element(t.weights, weights);
    const double scale = grid.effective_scale();
    for (std::int64_t i = 0; i < grid.dim; ++i) {
      const double first = element(t.value, t.value.offset(1, 0, 1, 3, 1) + i);
      const double second = element(t.value, t.value.offset(1, 0, 1, 4, 1) + i);
      element(t.output, output + i) += static_cast<float>(scale * difference * (first - second));
    }
  });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "planned tiling, output at [1, 3, 4, 3]: the relative error of the row is",
                      failures);
}

TEST(CheckUnfused, CatchesAReadOfMaskedSlots) {
  const auto failures = failures_of([](const Problem& grid, const Tiling& tiling,
                                       const NeighborhoodNeighborhoodViews& t, const Execution& execution) {
    kNaiveCpuNeighborhoodNeighborhood.neighborhood_neighborhood(grid, tiling, t, execution);
    // The first query has no row before it, so that the second row of its slots is masked.
    element(t.output, t.output.offset(0, 0, 0, 0, 0)) +=
        0 * element(t.weights, t.weights.offset(0, 0, 0, 0, 0) + grid.window[2]);
  });
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "planned tiling, output at [0, 0, 0, 0]: the relative error of the row is inf", failures);
}

TEST(CheckUnfused, AnInfinityIsRightWhereTheExactOneIsTheSame) {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> exact{1, -infinity}, magnitudes{1};
  EXPECT_EQ(check::relative_error(exact, exact, magnitudes).worst_row, 0);
  EXPECT_EQ(check::relative_error(std::vector<double>{1, infinity}, exact, magnitudes).worst_row, infinity);
  EXPECT_EQ(check::relative_error(std::vector<double>{1, 0}, exact, magnitudes).worst_row, infinity);
}

}  // namespace
}  // namespace vicinal
