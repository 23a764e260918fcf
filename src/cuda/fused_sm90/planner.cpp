#include "cuda/fused_sm90/planner.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/tiling.h"
#include "cuda/devices.h"
#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/cost_model.h"
#include "cuda/fused_sm90/tiles.h"
#include "plan/cost.h"

namespace vicinal::cuda::sm90 {
namespace {

using Shape = PerAxis<std::int64_t>;

/// The class of a problem with tiles for that many warpgroups; none where there is none.
const ForwardClass* class_of(const Problem& grid, std::int64_t warpgroups) {
  const std::size_t index = forward_class(class_dim(std::max(grid.dim, grid.dim_v)), warpgroups);
  return index < kForwardClasses.size() ? &kForwardClasses[index] : nullptr;
}

std::int64_t volume(const Shape& tile) { return tile[0] * tile[1] * tile[2]; }

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

/// What tiles come to along one axis, by the size of boxes and of key tiles; made when first asked for.
class AxisTable {
 public:
  AxisTable(const Problem& grid, int axis, std::int64_t boxes) : grid_(grid), axis_(axis), boxes_(boxes) {}

  const AxisSpans& spans(std::int64_t query_box) {
    std::optional<AxisSpans>& spans = of(query_box).spans;
    if (!spans) spans.emplace(grid_, axis_, query_box, boxes_, kMostTiles);
    return *spans;
  }

  const Work& work(std::int64_t query_box, std::int64_t key_tile) {
    std::vector<Work>& works = of(query_box).works;
    if (std::ssize(works) < key_tile) works.resize(key_tile, Work{.items = 0});
    Work& work = works[key_tile - 1];
    if (work.items == 0) work = spans(query_box).work(key_tile);
    return work;
  }

 private:
  static constexpr std::int64_t kMostTiles = 8;
  struct OfBox {
    std::optional<AxisSpans> spans;
    std::vector<Work> works;
  };
  OfBox& of(std::int64_t query_box) {
    if (std::ssize(of_boxes_) < query_box) of_boxes_.resize(query_box);
    return of_boxes_[query_box - 1];
  }

  const Problem& grid_;
  int axis_;
  std::int64_t boxes_;
  std::vector<OfBox> of_boxes_;
};

/// A tiling and its estimate.
struct Estimate {
  double seconds;
  Tiling tiling;
};

/// The best tilings seen so far, at most `count`.
class Shortlist {
 public:
  explicit Shortlist(std::size_t count) : count_(count) {}

  /// What does not take less is not wanted.
  [[nodiscard]] double limit() const {
    return best_.size() < count_ ? std::numeric_limits<double>::infinity() : best_.front().seconds;
  }
  void add(const Estimate& estimate) {
    if (estimate.seconds >= limit()) return;
    if (best_.size() == count_) {
      std::ranges::pop_heap(best_, {}, &Estimate::seconds);
      best_.pop_back();
    }
    best_.push_back(estimate);
    std::ranges::push_heap(best_, {}, &Estimate::seconds);
  }
  /// The best first.
  [[nodiscard]] std::vector<Tiling> tilings() {
    std::ranges::sort(best_, {}, &Estimate::seconds);
    std::vector<Tiling> tilings;
    for (const Estimate& estimate : best_) tilings.push_back(estimate.tiling);
    return tilings;
  }

 private:
  std::size_t count_;
  std::vector<Estimate> best_;  // a heap with the worst in front
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

std::vector<Tiling> forward_tilings(const Problem& grid, std::size_t count) {
  constexpr std::size_t kStarts = 24;  // boxes looked at where one tiling is wanted
  const Shape members = members_of(grid);
  const std::vector<Shape> boxes = largest_boxes(kWarpgroupRows, members);
  std::array<AxisTable, 3> whole{AxisTable(grid, 0, 1), AxisTable(grid, 1, 1), AxisTable(grid, 2, 1)};

  // A box of queries in a class, and what it would take if key tiles were never seen in part.
  struct Start {
    double least;
    double items;
    std::size_t size;
    const Shape* box;
  };
  std::vector<Start> starts;
  std::vector<CostModel> models;
  for (std::size_t c = 0; c < kForwardClasses.size(); ++c) {
    const ForwardClass& size = kForwardClasses[c];
    models.emplace_back(grid, size);
    if (size.dim != class_dim(std::max(grid.dim, grid.dim_v))) continue;
    for (const Shape& box : boxes) {
      double items = 1.0 / size.warpgroups;
      double keys = 1;
      for (int a = 0; a < 3; ++a) {
        items *= whole[a].spans(box[a]).items();
        keys *= whole[a].spans(box[a]).keys();
      }
      const double tiles = keys / size.columns;
      starts.push_back({models[c].seconds({items, 0, tiles, tiles}, size.columns), items, c, &box});
    }
  }
  std::ranges::sort(starts, {}, &Start::least);

  Shortlist best(count);
  std::map<std::int64_t, std::array<AxisTable, 3>> split;  // by warpgroups
  std::map<std::int64_t, std::vector<Shape>> key_tiles;    // by columns
  if (count == 1 && starts.size() > kStarts) starts.resize(kStarts);
  for (const Start& start : starts) {
    if (start.least >= best.limit()) break;
    const ForwardClass& size = kForwardClasses[start.size];
    const CostModel& model = models[start.size];
    auto [tiles, is_new] = key_tiles.try_emplace(size.columns);
    if (is_new) tiles->second = largest_boxes(size.columns, members);
    auto& tables = split.try_emplace(size.warpgroups, std::array{AxisTable(grid, 0, size.warpgroups),
                                                                 AxisTable(grid, 1, size.warpgroups),
                                                                 AxisTable(grid, 2, size.warpgroups)})
                       .first->second;
    const Shape& box = *start.box;
    double visited_limit = model.visited_within(best.limit(), start.items);
    for (const Shape& tile : tiles->second) {
      // A warpgroup that lays tiles from the corner of its own halo visits the fewest.
      double fewest = 1;
      for (int a = 0; a < 3; ++a) fewest *= whole[a].work(box[a], tile[a]).visited;
      if (fewest >= visited_limit) continue;
      for (int axis = 0; axis < (size.warpgroups == 1 ? 1 : 3); ++axis) {
        if (size.warpgroups > 1 && members[axis] == 1 && volume(members) > 1) continue;
        Work work;
        for (int a = 0; a < 3; ++a) work *= (a == axis ? tables : whole)[a].work(box[a], tile[a]);
        const double seconds = model.seconds(work, volume(tile));
        if (seconds >= best.limit()) continue;
        Tiling tiling{
            .query_tile = box, .key_tile = tile, .block = {1, 1, 1}, .rows = kWarpgroupRows, .columns = size.columns};
        tiling.block[axis] = size.warpgroups;
        best.add({seconds, tiling});
        visited_limit = model.visited_within(best.limit(), start.items);
      }
    }
  }
  return best.tilings();
}

Tiling forward_tiling(const Problem& grid) { return forward_tilings(grid, 1).front(); }

Cost forward_cost(const Problem& grid, const Tiling& tiling) {
  const ForwardClass& size = *class_of(grid, volume(tiling.block));
  Work work;
  for (int a = 0; a < 3; ++a) {
    work *= AxisSpans(grid, a, tiling.query_tile[a], tiling.block[a], std::numeric_limits<std::int32_t>::max())
                .work(tiling.key_tile[a]);
  }
  const std::int64_t keys = volume(tiling.key_tile);
  const double extra = work.items * static_cast<double>(size.warpgroups * ceil_div(grid.extra_kv, keys));
  const double visited = work.visited + extra;
  const double masked = keys == size.columns ? visited - work.unmasked : visited;
  const auto of_tiles = [&](double tiles) {
    return multiply_adds(grid, Operation::forward, tiles * static_cast<double>(tiling.rows * tiling.columns));
  };
  const auto heads = static_cast<double>(grid.batch * grid.heads);
  return {.needed_multiply_adds = multiply_adds(grid, Operation::forward, needed_pairs(grid)),
          .visited_multiply_adds = of_tiles(visited),
          .bytes = compulsory_bytes(grid, Operation::forward),
          .seconds = CostModel(grid, size).seconds(work, keys),
          .masked_multiply_adds = of_tiles(masked),
          .work_items = heads * work.items};
}

}  // namespace vicinal::cuda::sm90
