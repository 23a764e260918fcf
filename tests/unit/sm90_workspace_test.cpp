// How much memory the backward passes on Hopper ask for, and where that of one pass adds up dQ.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "check/random.h"
#include "core/window.h"
#include "cuda/fused_sm90/workspace_views.h"
#include "sm90_problems.h"

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

// What the library promises of its memory, written down once more.
TEST(Sm90Workspace, IsWhatIsPromised) {
  constexpr std::int64_t kAlignment = 64;  // of each part
  const auto copy_of = [](std::int64_t rows, std::int64_t dim) { return 4 * rows * ((dim + 7) / 8 * 8); };
  check::Random random(31);
  for (int i = 0; i < 3000; ++i) {
    Problem grid = random_problem(random);
    grid.batch = random.between(0, 4);
    grid.heads_kv = random.between(1, 6);
    grid.heads = grid.heads_kv * random.between(1, 4);
    grid.dim = random.between(1, 256);
    grid.dim_v = random.between(1, 256);
    const std::int64_t queries = grid.batch * grid.heads * grid.tokens();
    const std::int64_t extra_rows = grid.batch * grid.heads_kv * grid.extra_kv;
    const std::int64_t shared_queries = grid.tokens() * grid.heads / grid.heads_kv;

    // One copy of the extra gradients, and more only while queries keep a device busy: 8 extra tokens to each of 1024
    // blocks, 256 queries to each copy.
    const std::int64_t most_copied_rows =
        std::min(std::max<std::int64_t>(extra_rows, 1024 * 8), extra_rows * ((shared_queries + 255) / 256));
    const auto two_passes = static_cast<std::int64_t>(backward_workspace(grid, {}));
    EXPECT_GE(two_passes, 4 * queries + 4 * extra_rows * (grid.dim + grid.dim_v)) << to_string(grid);
    EXPECT_LE(two_passes, 4 * queries + kAlignment + 4 * most_copied_rows * (grid.dim + grid.dim_v)) << to_string(grid);

    grid.extra_kv = 0;
    EXPECT_LE(static_cast<std::int64_t>(backward_workspace(grid, {})), 4 * queries + kAlignment) << to_string(grid);
    const auto one_pass = static_cast<std::int64_t>(backward_one_pass_workspace(grid, {}));
    EXPECT_GE(one_pass, 8 * queries + 4 * queries * grid.dim) << to_string(grid);
    EXPECT_LE(one_pass, copy_of(queries, grid.dim) + 8 * queries + 2 * kAlignment) << to_string(grid);
  }
}

}  // namespace
}  // namespace vicinal::cuda::sm90
