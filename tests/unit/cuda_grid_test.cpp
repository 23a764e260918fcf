// The index arithmetic of CUDA kernels, which is the same code on host and device.

#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "core/neighbors.h"
#include "cuda/common/divisor.h"
#include "cuda/common/element.h"
#include "cuda/common/grid.h"
#include "cuda/naive/types.h"

namespace vicinal::cuda {
namespace {

TEST(Divisor, DividesAsThePlainOperators) {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  for (const std::int32_t d :
       {1, 2, 3, 5, 7, 10, 49, 127, 128, 129, 343, 10368, 65535, 65536, 1 << 30, kMost - 1, kMost}) {
    const Divisor<std::int32_t> divisor(d);
    EXPECT_EQ(static_cast<std::int32_t>(divisor), d);
    const auto expect_exact = [&](std::int64_t n) {
      if (n < 0 || n > kMost) return;
      const auto dividend = static_cast<std::int32_t>(n);
      EXPECT_EQ(dividend / divisor, dividend / d) << n << " / " << d;
      EXPECT_EQ(dividend % divisor, dividend % d) << n << " % " << d;
    };
    for (std::int64_t n = 0; n < 2000; ++n) expect_exact(n);
    for (std::int64_t n = kMost - 2000; n <= kMost; ++n) expect_exact(n);
    // Where quotients change, over the whole range.
    for (std::int64_t multiple = 0; multiple <= kMost; multiple += std::max<std::int64_t>(d, kMost / 5000 / d * d)) {
      for (std::int64_t n = multiple - 1; n <= multiple + 1; ++n) expect_exact(n);
    }
  }
  const Divisor<std::int64_t> wide(std::int64_t{3} << 40);
  EXPECT_EQ(((std::int64_t{7} << 40) + 5) / wide, 2);
  EXPECT_EQ(((std::int64_t{7} << 40) + 5) % wide, (std::int64_t{1} << 40) + 5);
}

Problem dilated_problem() {
  Problem p;
  p.rank = 3;
  p.batch = 2;
  p.heads = 6;
  p.heads_kv = 3;
  p.dim = p.dim_v = 8;
  p.layout = {3, 7, 11};
  p.window = {2, 3, 2};
  p.dilation = {1, 2, 4};
  p.stride = {1, 2, 1};
  p.causal = {false, true, false};
  p.extra_kv = 2;
  return p;
}

template <class Index>
void expect_places_in_order(const Problem& p) {
  const Rows<Index> rows(p, p.heads);
  EXPECT_EQ(rows.count, p.batch * p.tokens() * p.heads);
  for (Index row = 0; row < rows.count; ++row) {
    const Place<Index> at = rows.place(row);
    const Token token{at.token[0], at.token[1], at.token[2]};
    EXPECT_EQ((at.batch * p.tokens() + flat_index(p, token)) * p.heads + at.head, row);
  }
}

TEST(Rows, PlacesAreInRowMajorOrder) {
  expect_places_in_order<std::int32_t>(dilated_problem());
  expect_places_in_order<std::int64_t>(dilated_problem());
}

TEST(Axis, PositionsAreThoseOfDilationGroups) {
  const Problem p = dilated_problem();
  for (int a = 0; a < 3; ++a) {
    const Axis<std::int32_t> axis(p, a);
    for (std::int32_t token = 0; token < axis.extent; ++token) {
      const Position<std::int32_t> position = axis.position(token);
      const AxisWindow expected = axis_window(p, a, token % p.dilation[a]);
      const Interval keys = expected.keys_of(token / p.dilation[a]);
      EXPECT_EQ(position.axis.members, expected.members);
      EXPECT_EQ(position.keys().begin, keys.begin);
      EXPECT_EQ(position.keys().end, keys.end);
      EXPECT_EQ(axis.token(position.group, position.index), token);
    }
  }
}

TEST(SlotSplitter, InvertsTheOrderOfSlots) {
  const SlotGrid slots{{4, 5, 3}};
  const naive::SlotSplitter<std::int32_t> splitter(slots);
  for (std::int32_t flat = 0; flat < slots.size(); ++flat) {
    std::int32_t in_axis[3];
    splitter.split(flat, in_axis);
    EXPECT_EQ(slots.flat(in_axis[0], in_axis[1], in_axis[2]), flat);
  }
}

class ReachTest : public testing::Test {
 protected:
  ReachTest() {
    problem_.layout = {1, 4, 4};
    problem_.batch = 2;
    problem_.dtype = DType::fp16;
    view_.data = memory_;
    view_.dtype = DType::fp16;
    view_.batch_stride = 16 * 8;
    view_.axis_stride = {0, 4 * 8, 8};
    view_.head_stride = 0;
  }

  [[nodiscard]] Reach reach(bool vectors = true) const { return Reach(problem_).rows(view_, 1, 8, vectors); }

  Problem problem_;
  View view_;
  alignas(16) std::byte memory_[64]{};
};

TEST_F(ReachTest, SmallAlignedTensorsNeedNeither) {
  EXPECT_TRUE(reach().fits_32_bits());
  EXPECT_TRUE(reach().aligned());
}

TEST_F(ReachTest, FarStridesNeedWideIndices) {
  view_.batch_stride = -(std::int64_t{1} << 31);
  EXPECT_FALSE(reach().fits_32_bits());
  EXPECT_TRUE(reach().aligned());
  view_.batch_stride = std::int64_t{1} << 61;  // twice that is beyond 64 bits
  view_.axis_stride = {0, std::int64_t{1} << 61, std::int64_t{1} << 61};
  EXPECT_FALSE(reach().fits_32_bits());
}

TEST_F(ReachTest, ManyItemsNeedWideIndices) {
  EXPECT_TRUE(reach().items(std::int64_t{1} << 30).fits_32_bits());
  EXPECT_FALSE(reach().items(std::int64_t{1} << 31).fits_32_bits());
}

TEST_F(ReachTest, MisalignedRowsAreReadElementByElement) {
  view_.axis_stride[2] = 9;
  EXPECT_FALSE(reach().aligned());
  EXPECT_TRUE(reach(false).aligned());
  view_.axis_stride[2] = 8;
  view_.data = memory_ + 2;
  EXPECT_FALSE(reach().aligned());
  view_.data = nullptr;
  EXPECT_TRUE(reach().aligned()) << "an absent tensor has no alignment";
}

TEST(Element, RoundsAsTheCpu) {
  for (const float x : {0.0F, 1.0F, -1.5F, 65504.0F, 1e-7F, 3.14159F}) {
    EXPECT_EQ(narrowed<Half>(x).bits, Fp16::encode(x));
    EXPECT_EQ(narrowed<Bfloat>(x).bits, Bf16::encode(x));
    EXPECT_EQ(widened(narrowed<Half>(x)), Fp16::decode(Fp16::encode(x)));
    EXPECT_EQ(widened(narrowed<Bfloat>(x)), Bf16::decode(Bf16::encode(x)));
  }
}

}  // namespace
}  // namespace vicinal::cuda
