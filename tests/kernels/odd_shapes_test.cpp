// Attention over grids that no tile divides: long and thin, windows of nearly everything, strides that end inside an
// axis, dilations whose groups differ, in every causal combination.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "check/case.h"
#include "check/check.h"
#include "core/tiling.h"
#include "plan/cost.h"
#include "rows.h"

namespace vicinal {
namespace {

struct OddShape {
  int rank;
  PerAxis<std::int64_t> layout, window;
  PerAxis<std::int64_t> stride{1, 1, 1};
  PerAxis<std::int64_t> dilation{1, 1, 1};
  std::int64_t dim = 32;

  [[nodiscard]] Problem problem() const {
    Problem p;
    p.rank = rank;
    p.layout = layout;
    p.window = window;
    p.stride = stride;
    p.dilation = dilation;
    p.dim = p.dim_v = dim;
    return p;
  }
};

// Head dims from 16, where there is most work, to 256.
const std::array kOddShapes{
    OddShape{.rank = 1, .layout = {17, 1, 1}, .window = {12, 1, 1}},
    OddShape{.rank = 1, .layout = {67, 1, 1}, .window = {8, 1, 1}},
    OddShape{.rank = 1, .layout = {69, 1, 1}, .window = {12, 1, 1}},
    OddShape{.rank = 1, .layout = {125, 1, 1}, .window = {12, 1, 1}},
    OddShape{.rank = 1, .layout = {256, 1, 1}, .window = {255, 1, 1}, .stride = {82, 1, 1}, .dim = 256},
    OddShape{.rank = 2, .layout = {5, 25, 1}, .window = {5, 16, 1}, .dim = 128},
    OddShape{.rank = 2, .layout = {84, 19, 1}, .window = {7, 3, 1}, .dilation = {5, 1, 1}, .dim = 64},
    OddShape{.rank = 2, .layout = {19, 29, 1}, .window = {8, 8, 1}, .dilation = {2, 3, 1}, .dim = 96},
    OddShape{.rank = 2, .layout = {67, 80, 1}, .window = {12, 7, 1}, .stride = {8, 4, 1}, .dilation = {5, 11, 1}},
    OddShape{.rank = 2, .layout = {44, 80, 1}, .window = {9, 10, 1}, .dim = 64},
    // Windows that neighboring tiles share, which blocks of a Hopper kernel then pass over together.
    OddShape{.rank = 1, .layout = {500, 1, 1}, .window = {500, 1, 1}, .dim = 128},
    OddShape{.rank = 2, .layout = {64, 31, 1}, .window = {32, 20, 1}, .stride = {32, 16, 1}, .dim = 96},
    OddShape{.rank = 2, .layout = {64, 18, 1}, .window = {64, 3, 1}, .dilation = {1, 2, 1}, .dim = 88},
    OddShape{.rank = 3, .layout = {15, 16, 8}, .window = {9, 16, 3}, .stride = {1, 16, 1}, .dim = 120},
    // Keys that their only queries hardly see, whose gradients are made of small weights.
    OddShape{.rank = 2, .layout = {9, 33, 1}, .window = {1, 2, 1}, .dilation = {8, 1, 1}, .dim = 64},
    OddShape{
        .rank = 3, .layout = {68, 64, 8}, .window = {14, 32, 2}, .stride = {3, 4, 1}, .dilation = {1, 2, 3}, .dim = 16},
    OddShape{
        .rank = 3, .layout = {13, 11, 9}, .window = {3, 4, 3}, .stride = {2, 3, 3}, .dilation = {3, 2, 2}, .dim = 192},
    OddShape{.rank = 3,
             .layout = {57, 20, 88},
             .window = {19, 4, 6},
             .stride = {13, 1, 6},
             .dilation = {2, 2, 7},
             .dim = 16},
    OddShape{.rank = 3, .layout = {30, 48, 18}, .window = {3, 2, 8}, .dilation = {8, 18, 2}, .dim = 16},
    OddShape{
        .rank = 3, .layout = {5, 45, 73}, .window = {2, 7, 32}, .stride = {1, 4, 32}, .dilation = {2, 2, 2}, .dim = 16},
};

struct OddCase {
  const KernelRow* kernel;
  const OddShape* shape;
};

/// Every attention kernel with every shape; on the CPU, and without tiles, with those of little work.
std::vector<OddCase> odd_cases() {
  constexpr double kMostMultiplyAdds = 1e7;
  std::vector<OddCase> cases;
  for (const KernelRow& kernel : registry()) {
    if (is_unfused(kernel.operation)) continue;
    for (const OddShape& shape : kOddShapes) {
      const Problem grid = padded_to_rank_3(shape.problem());
      const double work = multiply_adds(grid, kernel.operation, needed_pairs(grid));
      const bool tiled_on_gpu = kernel.device != DeviceType::cpu && kernel.backend != "naive";
      if (!tiled_on_gpu && work > kMostMultiplyAdds) continue;
      cases.push_back({&kernel, &shape});
    }
  }
  return cases;
}

class OddShapes : public testing::TestWithParam<OddCase> {
 protected:
  void SetUp() override { skip_without_device(*GetParam().kernel); }
};

TEST_P(OddShapes, MatchTheOracle) {
  const auto& [kernel, shape] = GetParam();
  const int combinations = 1 << shape->rank;
  for (int causal = 0; causal < combinations; ++causal) {
    check::Case c{.problem = shape->problem(), .seed = static_cast<std::uint64_t>(causal)};
    Problem& p = c.problem;
    for (int a = 0; a < p.rank; ++a) p.causal[a] = (causal >> a & 1) != 0;
    p.heads = p.heads_kv = 1 + causal % 2;
    p.device.type = kernel->device;
    const bool half = supports_usual(*kernel, DType::fp16).ok();
    p.dtype = !half ? DType::fp32 : causal % 2 == 0 ? DType::fp16 : DType::bf16;
    while (p.dim > 32 && !kernel->supports(padded_to_rank_3(p)).ok()) p.dim = p.dim_v /= 2;  // the largest it takes
    if (kernel->operation == Operation::backward) {  // gradients of vectors of two lengths, either the longer one
      p.dim_v = p.dim + 8;
      if (causal % 2 == 0 || !kernel->supports(padded_to_rank_3(p)).ok()) p.dim_v = p.dim - 8;
    }
    p = fitted(*kernel, p);
    // Aligned, so that kernels may load many elements at once.
    c.arrange({.shift = 0});
    const check::Report report = check::check_case(c, *kernel);
    EXPECT_TRUE(report.ran()) << report.refusal;
    EXPECT_TRUE(report.passed()) << fmt::format("{}\n  {}", to_string(p), fmt::join(report.failures, "\n  "));
  }
}

using GapsOfRows = EveryKernel;

// Rows that begin at multiples of 2, 4, 8 or 16 bytes, with gaps between heads, or with heads that lie far apart.
TEST_P(GapsOfRows, MatchTheOracle) {
  const KernelRow& kernel = *GetParam();
  if (is_unfused(kernel.operation)) GTEST_SKIP() << "their tensors are those of the sweep";
  const DType dtype = supports_usual(kernel, DType::fp16).ok() ? DType::fp16 : DType::fp32;
  for (const bool heads_first : {false, true}) {
    for (const std::int64_t gap : {0, 1, 2, 4, 8}) {
      check::Case c{.problem = usual_problem(kernel, dtype), .seed = static_cast<std::uint64_t>(gap)};
      c.problem.heads = c.problem.heads_kv = 4;
      c.problem.extra_kv = takes_extra_tokens(kernel) ? 5 : 0;
      const check::Arrangement arrangement{.heads_first = heads_first, .shift = 0, .row_gap = gap};
      c.arrange(arrangement);
      const check::Report report = check::check_case(c, kernel);
      EXPECT_TRUE(report.ran()) << report.refusal;
      EXPECT_TRUE(report.passed()) << fmt::format("gap {}, heads first: {}\n  {}", gap, heads_first,
                                                  fmt::join(report.failures, "\n  "));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, GapsOfRows, testing::ValuesIn(all_rows()), name_of_row);

struct RaggedDims {
  std::int64_t dim, dim_v, gap;
  std::int64_t shift = 0;
};

using RaggedHeads = EveryKernel;

// What lies before and behind a vector is another head's, or NaN. Of eight heads side by side tokens begin at multiples
// of 16 bytes, or so many elements after them, with heads first at those of 2, 4 or 8. Vectors that nearly fill the 64,
// 128, 192 or 256 elements for which there is room.
TEST_P(RaggedHeads, MatchTheOracle) {
  const KernelRow& kernel = *GetParam();
  if (is_unfused(kernel.operation)) GTEST_SKIP() << "their tensors are those of the sweep";
  if (is_special(kernel)) GTEST_SKIP() << "not for any head dim";
  const DType dtype = supports_usual(kernel, DType::fp16).ok() ? DType::fp16 : DType::fp32;
  constexpr std::array kDims{
      RaggedDims{121, 121, 0},   RaggedDims{122, 122, 0},  RaggedDims{124, 124, 0}, RaggedDims{124, 125, 3},
      RaggedDims{65, 128, 2},    RaggedDims{60, 60, 0},    RaggedDims{64, 20, 0},   RaggedDims{20, 32, 5},
      RaggedDims{1, 1, 0},       RaggedDims{3, 7, 4},      RaggedDims{7, 3, 0},     RaggedDims{63, 61, 0},
      RaggedDims{64, 64, 1},     RaggedDims{32, 32, 7},    RaggedDims{95, 90, 0},   RaggedDims{127, 128, 2},
      RaggedDims{128, 96, 0, 1}, RaggedDims{64, 62, 0, 6}, RaggedDims{191, 130, 0}, RaggedDims{256, 255, 3}};
  for (const bool heads_first : {false, true}) {
    for (const auto& [dim, dim_v, gap, shift] : kDims) {
      check::Case c{.problem = usual_problem(kernel, dtype), .seed = static_cast<std::uint64_t>(dim)};
      Problem& p = c.problem;
      p.layout = {13, 11, 1};
      p.dilation = {1, dim % 2 + 1, 1};
      p.window = {5, 5, 1};
      p.heads = p.heads_kv = 8;
      p.dim = dim;
      p.dim_v = dim_v;
      p.extra_kv = takes_extra_tokens(kernel) ? 5 : 0;
      if (std::max(dim, dim_v) > 128 && !kernel.supports(padded_to_rank_3(p)).ok()) continue;  // not made for these
      const check::Arrangement arrangement{.heads_first = heads_first, .shift = shift, .row_gap = gap};
      c.arrange(arrangement);
      const check::Report report = check::check_case(c, kernel);
      EXPECT_TRUE(report.ran()) << report.refusal;
      EXPECT_TRUE(report.passed()) << fmt::format("{}, gap {}, heads first: {}\n  {}", to_string(p), gap, heads_first,
                                                  fmt::join(report.failures, "\n  "));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, RaggedHeads, testing::ValuesIn(all_rows()), name_of_row);

using HeadDims = EveryKernel;

// All multiples of 8, aligned.
TEST_P(HeadDims, MatchTheOracle) {
  const KernelRow& kernel = *GetParam();
  if (is_unfused(kernel.operation)) GTEST_SKIP() << "their tensors are those of the sweep";
  if (is_special(kernel)) GTEST_SKIP() << "not for any head dim";
  const bool half = supports_usual(kernel, DType::fp16).ok();
  for (std::int64_t dim = 8; dim <= 256; dim += 8) {
    check::Case c{.problem = usual_problem(kernel, DType::fp32), .seed = static_cast<std::uint64_t>(dim)};
    Problem& p = c.problem;
    p.dtype = !half ? DType::fp32 : dim % 16 == 0 ? DType::fp16 : DType::bf16;
    p.dim = p.dim_v = dim;
    if (dim > 128 && !kernel.supports(padded_to_rank_3(p)).ok()) continue;  // not made for these
    c.arrange({.shift = 0});
    const check::Report report = check::check_case(c, kernel);
    EXPECT_TRUE(report.ran()) << report.refusal;
    EXPECT_TRUE(report.passed()) << fmt::format("{}\n  {}", to_string(p), fmt::join(report.failures, "\n  "));
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, HeadDims, testing::ValuesIn(all_rows()), name_of_row);

std::string name_of_case(const testing::TestParamInfo<OddCase>& info) {
  const OddShape& shape = *info.param.shape;
  const auto axes = [&](const PerAxis<std::int64_t>& extents) {
    return fmt::format("{}", fmt::join(extents.begin(), extents.begin() + shape.rank, "x"));
  };
  return fmt::format("{}_{}_window_{}", info.param.kernel->name, axes(shape.layout), axes(shape.window));
}

INSTANTIATE_TEST_SUITE_P(Kernels, OddShapes, testing::ValuesIn(odd_cases()), name_of_case);

}  // namespace
}  // namespace vicinal
