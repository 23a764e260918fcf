#include "cuda/fused_sm90/planner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/tiling.h"
#include "cuda/devices.h"
#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/tiles.h"
#include "plan/cost.h"

namespace vicinal::cuda::sm90 {
namespace {

using Shape = PerAxis<std::int64_t>;

/// What tiles of one size along one axis come to, summed over the tiles of all dilation groups.
struct AxisWork {
  double items = 0;     ///< query tiles
  double loaded = 0;    ///< key tiles that some warpgroup needs
  double visited = 0;   ///< (warpgroup, key tile) pairs
  double unmasked = 0;  ///< those in which all queries see all keys
};

AxisWork axis_work(const Problem& grid, int axis, std::int64_t query_box, std::int64_t boxes, std::int64_t key_tile) {
  AxisWork sum;
  const std::int64_t dilation = grid.dilation[axis];
  const std::int64_t larger_groups = grid.layout[axis] % dilation;
  const auto add_groups = [&](std::int64_t group, std::int64_t count) {
    if (count == 0) return;
    const AxisWindow window = axis_window(grid, axis, group);
    const auto weight = static_cast<double>(count);
    for (std::int64_t q = 0; q < window.members; q += query_box * boxes) {
      const Interval halo_keys = halo(window, {q, std::min(q + query_box * boxes, window.members)});
      sum.items += weight;
      sum.loaded += weight * static_cast<double>(ceil_div(halo_keys.size(), key_tile));
      for (std::int64_t b = q; b < std::min(q + query_box * boxes, window.members); b += query_box) {
        const Interval first = window.keys_of(b);
        const Interval last = window.keys_of(std::min(b + query_box, window.members) - 1);
        const std::int64_t visited =
            ceil_div(last.end - halo_keys.begin, key_tile) - (first.begin - halo_keys.begin) / key_tile;
        const std::int64_t unmasked = std::max<std::int64_t>(first.end - halo_keys.begin, 0) / key_tile -
                                      ceil_div(last.begin - halo_keys.begin, key_tile);
        sum.visited += weight * static_cast<double>(visited);
        sum.unmasked += weight * static_cast<double>(std::max<std::int64_t>(unmasked, 0));
      }
    }
  };
  add_groups(0, larger_groups);
  add_groups(dilation - 1, dilation - larger_groups);
  return sum;
}

/// Work of one head and batch entry.
struct Work {
  double items, loaded, visited, unmasked;
};

Work total(const std::array<const AxisWork*, 3>& axes) {
  Work work{1, 1, 1, 1};
  for (const AxisWork* axis : axes) {
    work.items *= axis->items;
    work.loaded *= axis->loaded;
    work.visited *= axis->visited;
    work.unmasked *= axis->unmasked;
  }
  return work;
}

/// The class of a problem with tiles for that many warpgroups; none where there is none.
const ForwardClass* class_of(const Problem& grid, std::int64_t warpgroups) {
  const std::size_t index = forward_class(class_dim(std::max(grid.dim, grid.dim_v)), warpgroups);
  return index < kForwardClasses.size() ? &kForwardClasses[index] : nullptr;
}

std::int64_t volume(const Shape& tile) { return tile[0] * tile[1] * tile[2]; }

/// Seconds on the whole device. Constants measured on an H200 (docs/kernels/fused_sm90_forward.md).
double seconds(const Problem& grid, const ForwardClass& size, std::int64_t key_volume, Work work) {
  constexpr double kMultiprocessors = 132;
  constexpr double kLaunch = 4e-6;
  constexpr double kBytesPerSecond = 5e12;  // from the second-level cache
  // Of a multiprocessor that is never idle:
  constexpr double kPerScore = 1.6e-11;        // softmax
  constexpr double kPerMaskedScore = 0.3e-11;  // and its mask
  constexpr double kPerProduct = 2.0e-13;      // a multiply-add
  constexpr double kPerTile = 0.1e-6;
  // Of a warpgroup, which others fill: prologue and epilogue of a work item.
  constexpr double kItem = 3e-6;

  const double heads = static_cast<double>(grid.batch) * static_cast<double>(grid.heads);
  const double extra = work.items * static_cast<double>(ceil_div(grid.extra_kv, key_volume));
  const double scores = static_cast<double>(kWarpgroupRows) * static_cast<double>(size.columns);
  const double visited = work.visited + extra * size.warpgroups;
  const double masked = key_volume == size.columns ? visited - work.unmasked : visited;
  const double tile = kPerTile + scores * (kPerScore + kPerProduct * 2 * size.dim);
  const double busy = visited * tile + masked * scores * kPerMaskedScore + work.items * kItem / size.blocks;
  // Blocks take items in turns, so the last round counts whole.
  const double items = heads * work.items;
  const double places = kMultiprocessors * size.blocks;
  const double rounds = std::ceil(items / places) * places / items;
  const double bytes = heads * (work.loaded + extra) * static_cast<double>(key_volume) *
                       static_cast<double>(grid.dim + grid.dim_v) * static_cast<double>(size_of(grid.dtype));
  return std::max(heads * busy * rounds / kMultiprocessors, bytes / kBytesPerSecond) + kLaunch;
}

/// Boxes of at most `most` positions, none of which fits into another, inside `limit`.
std::vector<Shape> largest_boxes(std::int64_t most, const Shape& limit) {
  std::vector<Shape> boxes;
  for (std::int64_t x = 1; x <= std::min(most, limit[0]); ++x) {
    for (std::int64_t y = 1; y <= std::min(most / x, limit[1]); ++y) {
      const std::int64_t z = std::min(most / (x * y), limit[2]);
      const bool grows_x = x < limit[0] && (x + 1) * y * z <= most;
      const bool grows_y = y < limit[1] && x * (y + 1) * z <= most;
      if (!grows_x && !grows_y) boxes.push_back({x, y, z});
    }
  }
  return boxes;
}

/// Works of one axis by size of box and of key tile, made when first asked for.
class AxisTable {
 public:
  AxisTable(const Problem& grid, int axis, std::int64_t boxes, std::int64_t most_queries, std::int64_t most_keys)
      : grid_(grid), axis_(axis), boxes_(boxes), most_keys_(most_keys), known_(most_queries * most_keys) {}

  const AxisWork& operator()(std::int64_t query_box, std::int64_t key_tile) {
    AxisWork& work = known_[(query_box - 1) * most_keys_ + key_tile - 1];
    if (work.items == 0) work = axis_work(grid_, axis_, query_box, boxes_, key_tile);
    return work;
  }

 private:
  const Problem& grid_;
  int axis_;
  std::int64_t boxes_;
  std::int64_t most_keys_;
  std::vector<AxisWork> known_;
};

/// The most members of a dilation group, and the longest halo that a tile can have, along each axis.
Shape members_of(const Problem& grid) {
  Shape members{};
  for (int a = 0; a < 3; ++a) members[a] = group_members(grid.layout[a], grid.dilation[a], std::int64_t{0});
  return members;
}

}  // namespace

Status forward_supports(const Problem& grid) {
  if (grid.dtype != DType::fp16 && grid.dtype != DType::bf16) {
    return Status::refuse(fmt::format("dtype = {}; allowed: fp16, bf16", name_of(grid.dtype)));
  }
  const std::int64_t most = kForwardClasses.back().dim;
  if (std::max(grid.dim, grid.dim_v) > most) {
    return Status::refuse(fmt::format("dim = {}, dim_v = {}; allowed: up to {}", grid.dim, grid.dim_v, most));
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 4;
  if (std::ranges::max(grid.layout) > kMost || grid.extra_kv > kMost) {
    return Status::refuse(fmt::format("an axis of more than {} tokens", kMost));
  }
  if (grid.batch * grid.heads * grid.tokens() > kMost * kWarpgroupRows / 8) {
    return Status::refuse("batch * heads * tokens is too large for 32-bit work items");
  }
  const int major = compute_capability_major(grid.device.index);
  if (major != 9) return Status::refuse(fmt::format("compute capability {}.x; allowed: 9.x (Hopper)", major));
  return {};
}

Status forward_accepts(const Problem& grid, const Tiling& tiling) {
  const ForwardClass* size = class_of(grid, volume(tiling.block));
  if (size == nullptr || std::ranges::count(tiling.block, 1) < 2) {
    return Status::refuse(
        fmt::format("tiling.block = {}; allowed: 2 along one axis, or 1x1x1 where the head dim is at "
                    "most 64",
                    fmt::join(tiling.block, "x")));
  }
  if (tiling.rows != kWarpgroupRows || tiling.columns != size->columns) {
    return Status::refuse(fmt::format("tiling.rows = {}, tiling.columns = {}; allowed for such blocks: {}, {}",
                                      tiling.rows, tiling.columns, kWarpgroupRows, size->columns));
  }
  if (work_items(grid, tiling) > std::numeric_limits<std::int32_t>::max()) {
    return Status::refuse("more than 2147483647 work items");
  }
  return {};
}

Tiling forward_tiling(const Problem& grid) {
  const Shape members = members_of(grid);
  const std::vector<Shape> boxes = largest_boxes(kWarpgroupRows, members);
  Tiling best;
  double least = std::numeric_limits<double>::infinity();
  for (const ForwardClass& size : kForwardClasses) {
    if (size.dim != class_dim(std::max(grid.dim, grid.dim_v))) continue;
    const std::vector<Shape> tiles = largest_boxes(size.columns, members);
    std::vector<AxisTable> whole, split;
    for (int a = 0; a < 3; ++a) {
      whole.emplace_back(grid, a, 1, kWarpgroupRows, size.columns);
      split.emplace_back(grid, a, size.warpgroups, kWarpgroupRows, size.columns);
    }
    for (int axis = 0; axis < (size.warpgroups == 1 ? 1 : 3); ++axis) {
      if (size.warpgroups > 1 && members[axis] == 1 && volume(members) > 1) continue;
      for (const Shape& box : boxes) {
        for (const Shape& tile : tiles) {
          std::array<const AxisWork*, 3> works{};
          for (int a = 0; a < 3; ++a) works[a] = &(a == axis ? split : whole)[a](box[a], tile[a]);
          const double time = seconds(grid, size, volume(tile), total(works));
          if (time >= least) continue;
          least = time;
          best = {
              .query_tile = box, .key_tile = tile, .block = {1, 1, 1}, .rows = kWarpgroupRows, .columns = size.columns};
          best.block[axis] = size.warpgroups;
        }
      }
    }
  }
  return best;
}

Cost forward_cost(const Problem& grid, const Tiling& tiling) {
  const ForwardClass& size = *class_of(grid, volume(tiling.block));
  const auto along = [&](int axis) {
    return axis_work(grid, axis, tiling.query_tile[axis], tiling.block[axis], tiling.key_tile[axis]);
  };
  const AxisWork x = along(0);
  const AxisWork y = along(1);
  const AxisWork z = along(2);
  const Work work = total({&x, &y, &z});
  const std::int64_t keys = volume(tiling.key_tile);
  const double extra = work.items * static_cast<double>(size.warpgroups * ceil_div(grid.extra_kv, keys));
  const double visited = (work.visited + extra) * static_cast<double>(tiling.rows * tiling.columns);
  return {multiply_adds(grid, Operation::forward, needed_pairs(grid)), multiply_adds(grid, Operation::forward, visited),
          compulsory_bytes(grid, Operation::forward), seconds(grid, size, keys, work)};
}

}  // namespace vicinal::cuda::sm90
