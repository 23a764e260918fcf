#pragma once

// Boxes of queries and keys inside one dilation phase: which keys a query tile needs (its halo), how a tile of keys
// relates to a tile of queries, and how much of what a tiling computes is wasted. Host and device.

#include <array>
#include <cstdint>

#include "core/window.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal {

/// A box of positions, one half-open interval per axis.
struct Box {
  std::array<Interval, 3> axes{};

  VICINAL_HOST_DEVICE constexpr std::int64_t volume() const { return axes[0].size() * axes[1].size() * axes[2].size(); }
  friend constexpr bool operator==(const Box&, const Box&) = default;
};

/// How a tile of queries relates to a tile of keys.
enum class TileKind : std::uint8_t {
  outside,  ///< no query attends to any key: skip it
  inside,   ///< every query attends to every key: no mask
  partial,  ///< masked
};

/// Along one axis: the smallest interval that holds every key that some query of `queries` attends to.
/// Windows of consecutive queries touch (stride <= window), so each of its keys is attended by some query.
VICINAL_HOST_DEVICE constexpr Interval halo(const AxisWindow& axis, Interval queries) {
  return {axis.keys_of(queries.begin).begin, axis.keys_of(queries.end - 1).end};
}

/// Along one axis: the keys that all queries of `queries` attend to; empty (begin >= end) where there are none.
VICINAL_HOST_DEVICE constexpr Interval common_keys(const AxisWindow& axis, Interval queries) {
  return {axis.keys_of(queries.end - 1).begin, axis.keys_of(queries.begin).end};
}

VICINAL_HOST_DEVICE constexpr TileKind classify(const AxisWindow& axis, Interval queries, Interval keys) {
  const Interval needed = halo(axis, queries);
  if (keys.end <= needed.begin || needed.end <= keys.begin) return TileKind::outside;
  const Interval common = common_keys(axis, queries);
  return common.begin <= keys.begin && keys.end <= common.end ? TileKind::inside : TileKind::partial;
}

/// The three axes of one dilation phase: all that the arithmetic of tiles depends on.
struct PhaseGrid {
  std::array<AxisWindow, 3> axes{};

  VICINAL_HOST_DEVICE constexpr Box halo(const Box& queries) const {
    return {{vicinal::halo(axes[0], queries.axes[0]), vicinal::halo(axes[1], queries.axes[1]),
             vicinal::halo(axes[2], queries.axes[2])}};
  }

  VICINAL_HOST_DEVICE constexpr TileKind classify(const Box& queries, const Box& keys) const {
    bool inside = true;
    for (int a = 0; a < 3; ++a) {
      const TileKind kind = vicinal::classify(axes[a], queries.axes[a], keys.axes[a]);
      if (kind == TileKind::outside) return TileKind::outside;
      inside = inside && kind == TileKind::inside;
    }
    return inside ? TileKind::inside : TileKind::partial;
  }

  /// Does the query at these positions attend to the key at those?
  VICINAL_HOST_DEVICE constexpr bool attends(const std::array<std::int64_t, 3>& query,
                                             const std::array<std::int64_t, 3>& key) const {
    return axes[0].keys_of(query[0]).contains(key[0]) && axes[1].keys_of(query[1]).contains(key[1]) &&
           axes[2].keys_of(query[2]).contains(key[2]);
  }
};

VICINAL_HOST_DEVICE constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Dilation phases of a problem of rank 3: the product of the dilations. Phase p is (p0, p1, p2), last axis fastest.
inline std::int64_t phase_count(const Problem& grid) { return grid.dilation[0] * grid.dilation[1] * grid.dilation[2]; }

/// The group of each axis in phase `phase`.
inline std::array<std::int64_t, 3> phase_groups(const Problem& grid, std::int64_t phase) {
  return {phase / grid.dilation[2] / grid.dilation[1], phase / grid.dilation[2] % grid.dilation[1],
          phase % grid.dilation[2]};
}

inline AxisWindow axis_window(const Problem& grid, int axis, std::int64_t group) {
  return {group_members(grid.layout[axis], grid.dilation[axis], group), grid.window[axis], grid.stride[axis],
          grid.causal[axis]};
}

inline PhaseGrid phase_grid(const Problem& grid, std::int64_t phase) {
  const auto groups = phase_groups(grid, phase);
  return {{axis_window(grid, 0, groups[0]), axis_window(grid, 1, groups[1]), axis_window(grid, 2, groups[2])}};
}

/// (query, key) pairs of one head and batch entry that the problem needs, extra tokens included.
double needed_pairs(const Problem& grid);

/// (row, column) slots of one head and batch entry that a kernel computes which visits, for every query tile, all key
/// tiles of its halo: rows x columns for each such pair of tiles, plus the extra tokens padded to whole key tiles.
double visited_pairs(const Problem& grid, const Tiling& tiling);

}  // namespace vicinal
