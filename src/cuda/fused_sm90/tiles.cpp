#include "cuda/fused_sm90/tiles.h"

namespace vicinal::cuda::sm90 {

TiledGrid::TiledGrid(const Problem& grid, const Tiling& tiling)
    : split_axis(0),
      warpgroups(1),
      heads(grid.heads),
      heads_per_kv(grid.heads / grid.heads_kv),
      batch(static_cast<int>(grid.batch)),
      extra_kv(static_cast<int>(grid.extra_kv)),
      queries(tiling.query_tile, grid.dilation),
      keys(tiling.key_tile, grid.dilation),
      items(static_cast<int>(work_items(grid, tiling))) {
  for (int a = 0; a < 3; ++a) {
    const std::int64_t tile = tiling.query_tile[a] * tiling.block[a];
    axes[a] = {.extent = static_cast<int>(grid.layout[a]),
               .dilation = static_cast<int>(grid.dilation[a]),
               .window = static_cast<int>(grid.window[a]),
               .stride = Divisor<int>(grid.stride[a]),
               .causal = grid.causal[a],
               .query_box = static_cast<int>(tiling.query_tile[a]),
               .query_tile = static_cast<int>(tile),
               .key_tile = Divisor<int>(tiling.key_tile[a]),
               .tiles = Divisor<int>(ceil_div(group_members(grid.layout[a], grid.dilation[a], std::int64_t{0}), tile)),
               .groups = Divisor<int>(grid.dilation[a])};
    if (tiling.block[a] == 1) continue;
    split_axis = a;
    warpgroups = static_cast<int>(tiling.block[a]);
  }
}

std::int64_t work_items(const Problem& grid, const Tiling& tiling) {
  std::int64_t items = grid.batch * grid.heads * phase_count(grid);
  for (int a = 0; a < 3; ++a) {
    const std::int64_t members = group_members(grid.layout[a], grid.dilation[a], std::int64_t{0});
    items *= ceil_div(members, tiling.query_tile[a] * tiling.block[a]);
  }
  return items;
}

}  // namespace vicinal::cuda::sm90
