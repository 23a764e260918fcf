#include "cuda/naive/tiled.h"

#include <string>

namespace vicinal::cuda::naive {
namespace {

constexpr std::int64_t kMostQueries = 64;  // of a tile: enough for every thread of a block to have several slots

std::int64_t halo_rows(const Problem& grid, const PerAxis<std::int64_t>& tile) {
  return (tile[1] + grid.window[1] - 1) * (tile[2] + grid.window[2] - 1);
}

Tiling tiling_of(const Problem& grid, const PerAxis<std::int64_t>& tile) {
  Tiling tiling;
  tiling.query_tile = tile;
  tiling.key_tile = {1, tile[1] + grid.window[1] - 1, tile[2] + grid.window[2] - 1};
  tiling.rows = tile[1] * tile[2];
  tiling.columns = halo_rows(grid, tile);
  return tiling;
}

}  // namespace

Status tiled_supports(const Problem& grid) {
  const auto is = [](const char* name, std::int64_t value) {
    return std::string(name) + " = " + std::to_string(value);
  };
  if (grid.dtype == DType::fp64) return Status::refuse("dtype = fp64; this kernel: fp32, fp16, bf16");
  if (grid.dim != kTiledDim) return Status::refuse(is("dim", grid.dim) + "; this kernel: 32");
  if (grid.extra_kv != 0) return Status::refuse(is("extra_kv", grid.extra_kv) + "; this kernel: 0");
  if (grid.layout[0] != 1) return Status::refuse("this kernel: grids of two axes");
  for (int a = 1; a < 3; ++a) {
    if (grid.window[a] < kTiledWindowLeast || grid.window[a] > kTiledWindowMost) {
      return Status::refuse(is("window", grid.window[a]) + "; this kernel: 3 to 13 along both axes");
    }
    if (grid.stride[a] != 1) return Status::refuse(is("stride", grid.stride[a]) + "; this kernel: 1");
  }
  return {};
}

Tiling tiled_tiling(const Problem& grid) {
  PerAxis<std::int64_t> best{1, 1, 1};
  double fewest = 1e30;
  for (std::int64_t y = 1; y <= kMostQueries; ++y) {
    for (std::int64_t z = 1; y * z <= kMostQueries; ++z) {
      const PerAxis<std::int64_t> tile{1, y, z};
      if (tiled_shared_bytes(grid, tile) > kSharedBytes) break;
      double tiles = 1;
      for (int a = 1; a < 3; ++a) {
        tiles *= static_cast<double>(ceil_div(ceil_div(grid.layout[a], grid.dilation[a]), tile[a]));
      }
      const double copied = tiles * static_cast<double>(y * z + halo_rows(grid, tile));
      if (copied < fewest) {
        fewest = copied;
        best = tile;
      }
    }
  }
  return tiling_of(grid, best);
}

Status tiled_accepts(const Problem& grid, const Tiling& forced) {
  const PerAxis<std::int64_t>& tile = forced.query_tile;
  // Bounds first, so that the products below are small.
  if (tile[0] != 1 || tile[1] > kMostQueries || tile[2] > kMostQueries || tile[1] * tile[2] > kMostQueries) {
    return Status::refuse("query_tile; this kernel: 1 along the first axis, at most " + std::to_string(kMostQueries) +
                          " queries");
  }
  if (tiled_shared_bytes(grid, tile) > kSharedBytes) {
    return Status::refuse("queries and keys of a tile take " + std::to_string(tiled_shared_bytes(grid, tile)) +
                          " bytes of shared memory; this kernel: at most " + std::to_string(kSharedBytes));
  }
  if (!(forced == tiling_of(grid, tile))) {
    return Status::refuse("key_tile, rows, columns or block; this kernel: those that follow from query_tile");
  }
  return {};
}

}  // namespace vicinal::cuda::naive
