#pragma once

// How the sums over queries that are gradients of extra tokens are split, for code that includes no CUDA header: by
// sizes alone, not those of a device, which results would depend on.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/tiling.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

/// Elements of a row for each lane of a warp.
inline int per_lane_of(const Problem& grid) {
  const std::int64_t dim = std::max(grid.dim, grid.dim_v);
  return dim <= 32 ? 1 : dim <= 64 ? 2 : dim <= 128 ? 4 : 8;
}

/// Extra tokens of a block: as many as registers hold, of which a lane needs four times `per_lane` for each.
constexpr int tokens_of_block(int per_lane) { return per_lane == 8 ? 4 : 8; }

inline std::int64_t chunks_of(const Problem& grid) {
  return ceil_div(grid.extra_kv, std::int64_t{tokens_of_block(per_lane_of(grid))});
}

/// Of the queries that share a key head.
inline std::int64_t splits_of(const Problem& grid) {
  constexpr std::int64_t kFewestRows = 256;
  constexpr std::int64_t kBlocks = 1024;  // that queries are split for
  const std::int64_t rows = grid.tokens() * (grid.heads / grid.heads_kv);
  const std::int64_t blocks = std::max<std::int64_t>(grid.batch * grid.heads_kv * chunks_of(grid), 1);
  return std::clamp<std::int64_t>(kBlocks / blocks, 1, ceil_div(rows, kFewestRows));
}

/// Elements of the gradients.
inline std::int64_t extra_results(const Problem& grid) {
  return grid.batch * grid.extra_kv * grid.heads_kv * (grid.dim + grid.dim_v);
}

/// Bytes of partial sums: one for each split of the queries, float32.
inline std::size_t extra_gradients_bytes(const Problem& grid) {
  return static_cast<std::size_t>(splits_of(grid) * extra_results(grid)) * sizeof(float);
}

}  // namespace vicinal::cuda::sm90
