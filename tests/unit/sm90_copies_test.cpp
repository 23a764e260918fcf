// Who copies tiles in the Hopper kernels, and what a plan says of it.

#include "cuda/fused_sm90/copies.h"

#include <gtest/gtest.h>

#include "plan/registry.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {
namespace {

Problem of_dims(std::int64_t dim, std::int64_t dim_v, std::int64_t alignment = kMostAlignment) {
  Problem p;
  p.rank = 1;
  p.layout = {64, 1, 1};
  p.window = {7, 1, 1};
  p.dim = dim;
  p.dim_v = dim_v;
  p.dtype = DType::bf16;
  p.device = {DeviceType::cuda, 0};
  p.alignment = alignment;
  return p;
}

void expect_copies(const Problem& p, std::int64_t alignment, const std::string& words) {
  EXPECT_EQ(copies_of(p).alignment, alignment) << to_string(p);
  EXPECT_EQ(copies_of(p).by_copy_engine, alignment == 16) << to_string(p);
  EXPECT_EQ(explain_copies(p), words) << to_string(p);
}

TEST(Sm90Copies, AreByTheCopyEngineWhereVectorsAreAligned) {
  expect_copies(of_dims(64, 64), 16, "by the copy engine");
  expect_copies(of_dims(8, 120), 16, "by the copy engine");
}

TEST(Sm90Copies, NameTheHeadDim) {
  expect_copies(of_dims(57, 64), 2, "by threads: dim = 57 is no multiple of 8 elements (16 bytes)");
  expect_copies(of_dims(64, 124), 8, "by threads: dim_v = 124 is no multiple of 8 elements (16 bytes)");
  // Contiguous tensors, whose strides are of the head dim.
  expect_copies(of_dims(60, 60, 8), 8, "by threads: dim = 60 is no multiple of 8 elements (16 bytes)");
  expect_copies(of_dims(60, 60, 2), 2, "by threads: dim = 60 is no multiple of 8 elements (16 bytes)");
}

TEST(Sm90Copies, NameTheAlignmentOfTensors) {
  expect_copies(
      of_dims(64, 64, 8), 8,
      "by threads: tensors begin at, or have strides of, multiples of 8 bytes, or a stride is negative or too "
      "long; the copy engine takes multiples of 16");
  expect_copies(of_dims(64, 64, 4), 4,
                "by threads: tensors begin at, or have strides of, multiples of 4 bytes; the copy engine takes "
                "multiples of 16");
  EXPECT_FALSE(copies_of(of_dims(64, 64, 1)).by_copy_engine);
}

TEST(Sm90Copies, AreExplainedByPlansAndSoIsTheOrderOfWork) {
  const KernelRow row{.name = "of_a_test",
                      .backend = "test",
                      .operation = Operation::forward,
                      .device = DeviceType::cuda,
                      .supports = nullptr,
                      .tiling = nullptr,
                      .accepts = nullptr,
                      .cost = nullptr,
                      .workspace = nullptr,
                      .copies = [](const Problem& grid, const Tiling&) { return explain_copies(grid); },
                      .order = [](const Problem&, const Tiling&) { return std::string("in turns"); }};
  Plan plan;
  plan.problem = of_dims(64, 57);
  plan.kernel = &row;
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "  order      in turns\n  memory     ", plan.explain());
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "of workspace\n"
                      "  copies     by threads: dim_v = 57 is no multiple of 8 elements (16 bytes)\n"
                      "  estimate   ",
                      plan.explain());
  KernelRow one_way = row;
  one_way.copies = nullptr;
  one_way.order = nullptr;
  plan.kernel = &one_way;
  EXPECT_PRED_FORMAT2(testing::IsNotSubstring, "copies", plan.explain());
  EXPECT_PRED_FORMAT2(testing::IsNotSubstring, "order", plan.explain());
}

}  // namespace
}  // namespace vicinal::cuda::sm90
