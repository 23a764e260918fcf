// Where the one-pass backward pass on Hopper adds up dQ in memory.

#include <cstddef>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "core/window.h"
#include "cuda/fused_sm90/workspace_views.h"

namespace vicinal::cuda::sm90 {
namespace {

Problem problem_of(const PerAxis<std::int64_t>& layout, const PerAxis<std::int64_t>& dilation, std::int64_t dim) {
  Problem grid;
  grid.rank = 3;
  grid.batch = 2;
  grid.heads = grid.heads_kv = 3;
  grid.layout = layout;
  grid.dilation = dilation;
  grid.dim = grid.dim_v = dim;
  return grid;
}

TEST(Sm90QuerySums, TakeOneFloat32CopyOfTheGradient) {
  for (const PerAxis<std::int64_t>& dilation : {PerAxis<std::int64_t>{1, 1, 1}, {1, 2, 3}, {3, 4, 7}, {4, 7, 10}}) {
    for (std::int64_t dim = 8; dim <= 128; dim += 8) {
      const Problem grid = problem_of({5, 9, 11}, dilation, dim);
      const auto elements = static_cast<std::size_t>(grid.batch * grid.heads * grid.tokens() * dim);
      EXPECT_EQ(query_sums_bytes(grid), elements * sizeof(float));
    }
  }
  EXPECT_EQ(query_sums_bytes(problem_of({5, 9, 11}, {1, 1, 1}, 33)),
            query_sums_bytes(problem_of({5, 9, 11}, {1, 1, 1}, 40)))
      << "whole groups of 8 elements";
}

TEST(Sm90QuerySums, RowsOfTokensFillTheMemoryWithoutOverlap) {
  for (const std::int64_t dim : {8, 33, 64, 72, 128}) {
    for (const PerAxis<std::int64_t>& dilation : {PerAxis<std::int64_t>{1, 1, 1}, {2, 4, 3}, {5, 1, 10}}) {
      const Problem grid = problem_of({5, 7, 11}, dilation, dim);
      const View sums = query_sums_view(grid, nullptr);
      std::vector<int> rows(query_sums_bytes(grid) / sizeof(float) / static_cast<std::size_t>(summed_dim(grid)));
      const auto place = [&](int axis, std::int64_t token) {
        const PackedGroups<std::int64_t> groups(grid.layout[axis], dilation[axis]);
        return groups.begin(token % dilation[axis]) + token / dilation[axis];
      };
      for (std::int64_t b = 0; b < grid.batch; ++b) {
        for (std::int64_t h = 0; h < grid.heads; ++h) {
          for (std::int64_t x = 0; x < grid.layout[0]; ++x) {
            for (std::int64_t y = 0; y < grid.layout[1]; ++y) {
              for (std::int64_t z = 0; z < grid.layout[2]; ++z) {
                const std::int64_t element = sums.offset(b, place(0, x), place(1, y), place(2, z), h);
                ASSERT_EQ(element % summed_dim(grid), 0);
                ++rows.at(static_cast<std::size_t>(element / summed_dim(grid)));
              }
            }
          }
        }
      }
      EXPECT_EQ(rows, std::vector<int>(rows.size(), 1)) << "dim " << dim;
    }
  }
}

}  // namespace
}  // namespace vicinal::cuda::sm90
