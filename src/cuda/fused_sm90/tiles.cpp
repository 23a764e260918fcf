#include "cuda/fused_sm90/tiles.h"

namespace vicinal::cuda::sm90 {
namespace {

std::int64_t heads_of(const Problem& grid, RowKind rows) {
  return rows == RowKind::queries ? grid.heads : grid.heads_kv;
}

constexpr int kNoAxis = -1;

}  // namespace

TiledGrid::TiledGrid(const Problem& grid, const Tiling& tiling, RowKind kind)
    : split_axis(0),
      warpgroups(1),
      sharers(1),
      shared_axis(kNoAxis),
      heads(heads_of(grid, kind)),
      heads_per_kv(grid.heads / grid.heads_kv),
      batch(static_cast<int>(grid.batch)),
      extra_kv(kind == RowKind::queries ? static_cast<int>(grid.extra_kv) : 0),
      rows(tiling.query_tile, grid.dilation),
      columns(tiling.key_tile, grid.dilation),
      items(static_cast<int>(work_items(grid, tiling, kind))) {
  for (int a = 0; a < 3; ++a) {
    const std::int64_t tile = tiling.query_tile[a] * tiling.block[a];
    const std::int64_t tiles = ceil_div(group_members(grid.layout[a], grid.dilation[a], std::int64_t{0}), tile);
    const bool from_the_end = grid.causal[a] && kind == RowKind::queries;
    axes[a] = {.extent = static_cast<int>(grid.layout[a]),
               .dilation = static_cast<int>(grid.dilation[a]),
               .window = static_cast<int>(grid.window[a]),
               .stride = Divisor<int>(grid.stride[a]),
               .causal = grid.causal[a],
               .row_box = static_cast<int>(tiling.query_tile[a]),
               .row_tile = static_cast<int>(tile),
               .first_origin = static_cast<int>(from_the_end ? (tiles - 1) * tile : 0),
               .origin_step = static_cast<int>(from_the_end ? -tile : tile),
               .column_tile = Divisor<int>(tiling.key_tile[a]),
               .tiles = Divisor<int>(tiles),
               .groups = Divisor<int>(grid.dilation[a])};
    if (tiling.block[a] == 1) continue;
    split_axis = a;
    warpgroups = static_cast<int>(tiling.block[a]);
  }
}

void TiledGrid::share_columns() {
  for (int a = 2; a >= 0; --a) {
    TiledAxis& axis = axes[a];
    const int tile = 2 * axis.row_tile;
    const bool see_the_same = axis.window >= axis.extent || axis.stride % tile == 0;
    // An odd tile would leave a block without rows, which costs more than copies do.
    if (axis.causal || axis.dilation > 1 || !see_the_same || axis.tiles % 2 != 0) continue;
    sharers = 2;
    shared_axis = a;
    axis.row_tile = axis.origin_step = tile;
    axis.tiles = Divisor<int>(axis.tiles / 2);
    items /= 2;
    return;
  }
}

std::int64_t work_items(const Problem& grid, const Tiling& tiling, RowKind rows) {
  std::int64_t items = grid.batch * heads_of(grid, rows) * phase_count(grid);
  for (int a = 0; a < 3; ++a) {
    const std::int64_t members = group_members(grid.layout[a], grid.dilation[a], std::int64_t{0});
    items *= ceil_div(members, tiling.query_tile[a] * tiling.block[a]);
  }
  return items;
}

}  // namespace vicinal::cuda::sm90
