#include "core/tiling.h"

#include <algorithm>

namespace vicinal {
namespace {

// Both counts are products over the axes, since tiles are boxes and masks are intersections of per-axis intervals.
// A dilated axis has at most two sizes of group; equal ones are counted once and multiplied.
template <class PerGroup>
double sum_over_groups(const Problem& grid, int axis, PerGroup per_group) {
  const std::int64_t dilation = grid.dilation[axis];
  const std::int64_t larger = grid.layout[axis] % dilation;  // groups with one member more
  double sum = static_cast<double>(dilation - larger) * per_group(axis_window(grid, axis, dilation - 1));
  if (larger > 0) sum += static_cast<double>(larger) * per_group(axis_window(grid, axis, 0));
  return sum;
}

/// (query, key) pairs along an axis of which the query attends to the key.
double pairs_along(const AxisWindow& axis) {
  const auto members = static_cast<double>(axis.members);
  const auto window = static_cast<double>(axis.window);
  if (!axis.causal) return members * window;
  // Queries see all keys up to themselves, but for those before the window of their leader: the last of each run of
  // `stride` queries, and of what is left behind the runs. The windows of the first runs begin with the first key.
  const std::int64_t runs = axis.members / axis.stride;
  const std::int64_t first = std::min(axis.window / axis.stride, runs);
  const auto stride = static_cast<double>(axis.stride);
  const auto cut_runs = static_cast<double>(runs - first);
  const double least_cut = static_cast<double>(first + 1) * stride - window;
  const double most_cut = static_cast<double>(runs) * stride - window;
  const double left = members - static_cast<double>(runs) * stride;
  return members * (members + 1) / 2 - stride * cut_runs * (least_cut + most_cut) / 2 - left * (members - window);
}

}  // namespace

double needed_pairs(const Problem& grid) {
  double pairs = 1;
  for (int a = 0; a < 3; ++a) pairs *= sum_over_groups(grid, a, pairs_along);
  return pairs + static_cast<double>(grid.tokens()) * static_cast<double>(grid.extra_kv);
}

double visited_pairs(const Problem& grid, const Tiling& tiling) {
  double tile_pairs = 1;
  double query_tiles = 1;
  for (int a = 0; a < 3; ++a) {
    const std::int64_t rows = tiling.query_tile[a];
    const std::int64_t columns = tiling.key_tile[a];
    tile_pairs *= sum_over_groups(grid, a, [=](const AxisWindow& axis) {
      double sum = 0;
      for (std::int64_t q = 0; q < axis.members; q += rows) {
        const Interval queries{q, std::min(q + rows, axis.members)};
        sum += static_cast<double>(ceil_div(halo(axis, queries).size(), columns));
      }
      return sum;
    });
    query_tiles *= sum_over_groups(
        grid, a, [=](const AxisWindow& axis) { return static_cast<double>(ceil_div(axis.members, rows)); });
  }
  tile_pairs += query_tiles * static_cast<double>(ceil_div(grid.extra_kv, tiling.columns));
  return tile_pairs * static_cast<double>(tiling.rows) * static_cast<double>(tiling.columns);
}

}  // namespace vicinal
