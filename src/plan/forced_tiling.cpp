#include "plan/forced_tiling.h"

#include <algorithm>

namespace vicinal {
namespace {

std::int64_t volume(const PerAxis<std::int64_t>& tile) { return tile[0] * tile[1] * tile[2]; }

/// Tiles are boxes of the padded grid: leading axes of extent 1.
PerAxis<std::int64_t> padded(PerAxis<std::int64_t> tile, int rank) {
  std::fill(tile.begin() + rank, tile.end(), 1);
  std::rotate(tile.begin(), tile.begin() + rank, tile.end());
  return tile;
}

}  // namespace

PlanOptions with_forced_tiling(const Problem& problem, Operation operation, PlanOptions options,
                               const ForcedTiling& forced) {
  if (forced == ForcedTiling{}) return options;
  Tiling tiling = make_plan(problem, operation, options).tiling;
  if (forced.query_tile) tiling.query_tile = padded(*forced.query_tile, problem.rank);
  if (forced.key_tile) tiling.key_tile = padded(*forced.key_tile, problem.rank);
  if (forced.block) tiling.block = padded(*forced.block, problem.rank);
  tiling.rows = forced.rows.value_or(std::max(tiling.rows, volume(tiling.query_tile)));
  tiling.columns = forced.columns.value_or(std::max(tiling.columns, volume(tiling.key_tile)));
  options.tiling = tiling;
  return options;
}

}  // namespace vicinal
