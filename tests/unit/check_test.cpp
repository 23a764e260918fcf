// The checks must catch kernels that are wrong: each kernel here is the reference with one mistake put in.

#include "check/check.h"

#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "check/compare.h"
#include "check/expected.h"
#include "check/random.h"
#include "core/elements.h"
#include "core/half.h"
#include "cpu/parallel.h"

namespace vicinal::check {
namespace {

Case small_case() {
  Case c;
  c.problem.rank = 2;
  c.problem.layout = {9, 12, 1};
  c.problem.window = {5, 4, 1};
  c.problem.batch = 2;
  c.problem.heads = c.problem.heads_kv = 2;
  c.problem.dim = 16;
  c.problem.dim_v = 8;
  c.inputs[1].token_gap = 2;
  c.results[0].row_gap = 3;
  c.seed = 7;
  return c;
}

using ForwardKernel = void (*)(const Problem&, const Tiling&, const ForwardViews&, const Execution&);
using BackwardKernel = void (*)(const Problem&, const Tiling&, const BackwardViews&, const Execution&);

std::string failures_of(ForwardKernel forward, const Case& c = small_case()) {
  KernelRow row = kReferenceForward;
  row.forward = forward;
  return fmt::format("{}", fmt::join(check_case(c, row).failures, "\n"));
}

std::string failures_of(BackwardKernel backward, const Case& c = small_case()) {
  KernelRow row = kReferenceBackward;
  row.backward = backward;
  return fmt::format("{}", fmt::join(check_case(c, row).failures, "\n"));
}

float& element(const View& view, std::int64_t offset) { return static_cast<float*>(view.data)[offset]; }

TEST(Check, PassesTheReference) {
  EXPECT_EQ(failures_of(kReferenceForward.forward), "");
  EXPECT_EQ(failures_of(kReferenceBackward.backward), "");
}

TEST(Check, CatchesAMissingKey) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const ForwardViews& t, const Execution& execution) {
        Problem smaller = grid;
        smaller.window[2] -= 1;
        kReferenceForward.forward(smaller, tiling, t, execution);
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "planned tiling, output: the relative error is", failures);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "planned tiling, logsumexp: the largest error is", failures);
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "counting, planned tiling at [0, 0, 0, 0]: 20 neighbors, but exp(logsumexp) = 15", failures);
}

TEST(Check, CatchesOneMissingKeyOfManyInLowPrecision) {
  Case c;
  c.problem.rank = 1;
  c.problem.layout = {400, 1, 1};
  c.problem.window = {201, 1, 1};
  c.problem.dim = c.problem.dim_v = 16;
  for (const DType dtype : {DType::fp16, DType::bf16}) {
    c.problem.dtype = dtype;
    EXPECT_EQ(failures_of(kReferenceForward.forward, c), "");
    const auto failures = failures_of(
        [](const Problem& grid, const Tiling& tiling, const ForwardViews& t, const Execution& execution) {
          Problem smaller = grid;
          smaller.window[2] = 200;
          kReferenceForward.forward(smaller, tiling, t, execution);
        },
        c);
    EXPECT_PRED_FORMAT2(testing::IsSubstring, "planned tiling, output: the relative error is", failures);
  }
}

TEST(Check, CountsTheQueriesOfAKey) {
  // What one query of 201 adds is missing.
  Case c;
  c.problem.rank = 1;
  c.problem.layout = {400, 1, 1};
  c.problem.window = {201, 1, 1};
  c.problem.dim = c.problem.dim_v = 16;
  c.problem.dtype = DType::fp16;
  EXPECT_EQ(failures_of(kReferenceBackward.backward, c), "");
  const auto failures = failures_of(
      [](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
        kReferenceBackward.backward(grid, tiling, t, execution);
        auto* const first = static_cast<std::uint16_t*>(t.grad_value.data);  // fp16
        *first = Fp16::encode(Fp16::decode(*first) - 1.0F / 201);
      },
      c);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "counting, planned tiling, grad_value at [0, 0, 0]: ", failures);
}

TEST(Check, CatchesAGradientOfKeysWithoutQueries) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
        kReferenceBackward.backward(grid, tiling, t, execution);
        element(t.grad_key, 0) += 1e-30F;
      });
  EXPECT_EQ(failures, "counting, planned tiling, grad_key at [0, 0, 0, 0]: 1e-30 instead of 0");
}

TEST(Check, CatchesOneRowThatIsNotWritten) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const ForwardViews& t, const Execution& execution) {
        kReferenceForward.forward(grid, tiling, t, execution);
        element(t.output, t.output.offset(1, 0, 8, 11, 1)) = std::nanf("");
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "planned tiling, output at [1, 8, 11, 1]: the relative error of the row is inf", failures);
}

TEST(Check, CatchesAWriteBetweenElements) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const ForwardViews& t, const Execution& execution) {
        kReferenceForward.forward(grid, tiling, t, execution);
        element(t.output, grid.dim_v) = 0;
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "1 thread: output is written outside of its elements", failures);
}

TEST(Check, CatchesAWriteToAnInput) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const ForwardViews& t, const Execution& execution) {
        kReferenceForward.forward(grid, tiling, t, execution);
        element(t.key, 0) += 1;
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "1 thread: input 1 is written to", failures);
}

TEST(Check, CatchesResultsThatDependOnTheThreads) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
        kReferenceBackward.backward(grid, tiling, t, execution);
        if (execution.threads == 3) element(t.grad_value, 0) = std::nextafterf(element(t.grad_value, 0), 10.0F);
      });
  EXPECT_EQ(failures, "3 threads: grad_value differs from that of 1 thread");
}

TEST(Check, AKernelWhoseBitsMayDifferIsHeldAgainstTheOracleEveryTime) {
  KernelRow row = kReferenceBackward;
  row.deterministic = false;
  row.backward = [](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
    kReferenceBackward.backward(grid, tiling, t, execution);
    for (int i = 0; i < execution.threads; ++i) {
      element(t.grad_value, 0) = std::nextafterf(element(t.grad_value, 0), 10.0F);
    }
  };
  EXPECT_EQ(fmt::format("{}", fmt::join(check_case(small_case(), row).failures, "\n")), "");
  row.backward = [](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
    kReferenceBackward.backward(grid, tiling, t, execution);
    if (execution.threads == 3) element(t.grad_value, 0) += 1;
  };
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "3 threads, grad_value at [0, 0, 0, 0]: the relative error of the row is",
                      fmt::format("{}", fmt::join(check_case(small_case(), row).failures, "\n")));
}

TEST(Check, CatchesALeakFromAnotherHead) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
        kReferenceBackward.backward(grid, tiling, t, execution);
        const std::int64_t other = t.grad_query.offset(1, 0, 0, 0, 1);
        element(t.grad_query, 0) += 0 * element(t.grad_query, other);
        element(t.grad_query, other) += 0 * element(t.grad_query, 0);
        for (std::int64_t b = 0; b < 2; ++b) {
          const std::int64_t first = t.grad_key.offset(b, 0, 0, 0, 0), second = t.grad_key.offset(b, 0, 0, 0, 1);
          const float both = 0 * (element(t.grad_key, first) + element(t.grad_key, second));
          element(t.grad_key, first) += both;
          element(t.grad_key, second) += both;
        }
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "changes grad_key at", failures);
}

TEST(Check, CatchesAWriteBeyondTheWorkspace) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
        kReferenceBackward.backward(grid, tiling, t, execution);
        static_cast<std::byte*>(execution.workspace)[execution.workspace_bytes] = std::byte{0};
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "1 thread: written beyond the end of the workspace", failures);
}

TEST(Check, CatchesGradientsOfTheWrongScale) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
        kReferenceBackward.backward(grid, tiling, t, execution);
        for (std::int64_t i = 0; i < grid.dim; ++i) element(t.grad_key, i) *= 1.001F;
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "planned tiling, grad_key at [0, 0, 0, 0]: the relative error of the row is", failures);
}

TEST(Check, CatchesAKernelThatIgnoresTheGradientOfLogsumexp) {
  const auto failures =
      failures_of([](const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
        BackwardViews without = t;
        without.grad_logsumexp = {};
        kReferenceBackward.backward(grid, tiling, without, execution);
      });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "planned tiling, grad_query", failures);
}

TEST(Check, ReportsARefusal) {
  KernelRow row = kReferenceForward;
  row.supports = [](const Problem&) { return Status::refuse("not today"); };
  const Report report = check_case(small_case(), row);
  EXPECT_FALSE(report.ran());
  EXPECT_EQ(report.refusal, "not today");
}

TEST(Check, AnEmptyBatchIsChecked) {
  Case c = small_case();
  c.problem.batch = 0;
  EXPECT_TRUE(check_case(c, kReferenceForward).passed());
  EXPECT_TRUE(check_case(c, kReferenceBackward).passed());
}

TEST(RandomCase, IsReproducibleLegalAndVaried) {
  std::set<std::string> problems;
  for (std::int64_t number = 0; number < 500; ++number) {
    const Case c = random_case({.seed = 3}, number);
    EXPECT_EQ(validate(c.problem).reason(), "");
    EXPECT_EQ(c.problem, random_case({.seed = 3}, number).problem);
    problems.insert(to_string(c.problem));
  }
  EXPECT_GT(problems.size(), 490U);
}

TEST(RandomCase, NamesTheCommandThatReproducesIt) {
  EXPECT_EQ(reproducing_command({.seed = 7}, 12, "fused_cpu_forward"),
            "vicinal check --seed 7 --case 12 --kernel fused_cpu_forward");
  EXPECT_EQ(reproducing_command({.seed = 7, .size = 0.5}, 12, "reference_forward"),
            "vicinal check --seed 7 --case 12 --kernel reference_forward --size 0.5");
}

TEST(TestTensor, KeepsValuesInAnyArrangement) {
  Random random(1);
  for (int i = 0; i < 200; ++i) {
    const Shape shape{{random.between(1, 3), random.between(1, 4), random.between(1, 4), random.between(1, 3)},
                      random.chance(0.3) ? 0 : random.between(1, 9)};
    Arrangement arrangement{.heads_first = random.chance(0.5),
                            .row_gap = random.between(0, 3),
                            .token_gap = random.between(0, 3),
                            .reversed = static_cast<unsigned>(random.between(0, 15))};
    TestTensor tensor(shape, DType::fp16, arrangement);
    EXPECT_TRUE(tensor.surroundings_intact());
    std::vector<double> values(static_cast<std::size_t>(shape.elements()));
    for (std::size_t v = 0; v < values.size(); ++v) values[v] = static_cast<double>(v);
    tensor.store(values);
    EXPECT_EQ(tensor.load(), values);
    EXPECT_TRUE(tensor.surroundings_intact());
  }
}

TEST(TestTensor, NoticesWhatIsWrittenAroundIt) {
  TestTensor tensor({{1, 2, 2}, 3}, DType::fp32, {.row_gap = 1});
  auto* data = static_cast<float*>(tensor.tensor().data);
  data[2] = 0;
  EXPECT_TRUE(tensor.surroundings_intact());
  data[3] = 0;
  EXPECT_FALSE(tensor.surroundings_intact());
}

TEST(TestTensor, SharesElementsUnderAZeroStride) {
  TestTensor tensor({{1, 3, 1}, 2}, DType::fp32, {.broadcast = 0b010});
  tensor.store(std::vector<double>{1, 2, 3, 4, 5, 6});
  EXPECT_EQ(tensor.load(), (std::vector<double>{5, 6, 5, 6, 5, 6}));
  EXPECT_EQ(tensor.tensor().strides[1], 0);
}

TEST(RelativeError, IsThatOfTheWorstRow) {
  const std::vector<double> exact{3, 4, 30, 40}, magnitudes{5, 50};
  const RelativeError error = relative_error(std::vector<double>{3, 4.5, 30, 40}, exact, magnitudes);
  EXPECT_DOUBLE_EQ(error.worst_row, 0.1);
  EXPECT_EQ(error.row, 0);
  EXPECT_DOUBLE_EQ(error.overall, 0.5 / std::sqrt(25.0 + 2500.0));
}

TEST(RelativeError, MeasuresCancelledRowsAgainstTheirTerms) {
  const std::vector<double> exact{0, 1e-9}, zero{0, 0}, magnitudes{4};
  EXPECT_DOUBLE_EQ(relative_error(std::vector<double>{0.5, 1e-9}, exact, magnitudes).worst_row, 0.5);
  EXPECT_EQ(relative_error(zero, zero, std::vector<double>{0}).worst_row, 0);
  EXPECT_TRUE(std::isinf(relative_error(exact, zero, std::vector<double>{0}).worst_row)) << "where 0 is exact";
}

TEST(RelativeError, MeasuresNegligibleRowsAgainstLargerOnes) {
  const std::vector<double> exact{1e-8, 0, 0, 0}, magnitudes{1e-8}, none{0}, step{0, 0, 0, 0x1p-24};
  EXPECT_DOUBLE_EQ(relative_error(std::vector<double>{1e-8, 0, 0, 0x1p-24}, exact, magnitudes, DType::fp16).worst_row,
                   0x1p-24 / (2 * 0x1p-14));
  EXPECT_GT(relative_error(step, exact, magnitudes, DType::bf16).worst_row, 1);
  EXPECT_TRUE(std::isinf(relative_error(step, std::vector<double>(4), none, DType::fp16).worst_row));
}

}  // namespace
}  // namespace vicinal::check
