#include "cuda/fused_sm90/planner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
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

constexpr std::size_t kMostPasses = 2;

int dim_of_class(const Problem& grid, Method method) {
  return class_dim(classes_of(method), std::max(grid.dim, grid.dim_v));
}

/// The class of a problem with tiles for that many warpgroups; none where there is none.
const KernelClass* class_of(const Problem& grid, Method method, std::int64_t warpgroups) {
  const std::span<const KernelClass> classes = classes_of(method);
  const std::size_t index = class_index(classes, dim_of_class(grid, method), warpgroups);
  return index < classes.size() ? &classes[index] : nullptr;
}

std::int64_t volume(const Shape& tile) { return tile[0] * tile[1] * tile[2]; }

/// Axes along which there is a choice.
std::ptrdiff_t long_axes(const Shape& members) { return 3 - std::ranges::count(members, 1); }

/// Boxes of queries or keys, for warpgroups, that are worth a look: those of at least `least` positions.
std::vector<Shape> boxes_of(const Problem& grid, const Shape& members, std::int64_t least) {
  std::array<std::vector<std::int64_t>, 3> extents;
  const bool few = long_axes(members) < 3;  // so few that all of them can be looked at
  for (int a = 0; a < 3; ++a) {
    const std::int64_t stride = grid.stride[a];
    std::int64_t shorter_boxes = 0;
    for (std::int64_t extent = 1; extent <= std::min<std::int64_t>(kWarpgroupRows, members[a]); ++extent) {
      // The shortest of those that cut the axis into as many boxes see the least; others fill all rows; whole strides,
      // or equal parts of them, share windows.
      const std::int64_t boxes = ceil_div(members[a], extent);
      const bool fills_rows = kWarpgroupRows / (kWarpgroupRows / extent) == extent;
      const bool fits_strides = stride > 1 && (extent % stride == 0 || stride % extent == 0);
      if (few || boxes != shorter_boxes || fills_rows || fits_strides) extents[a].push_back(extent);
      shorter_boxes = boxes;
    }
  }
  std::vector<Shape> boxes;
  for (const std::int64_t x : extents[0]) {
    for (const std::int64_t y : extents[1]) {
      for (const std::int64_t z : extents[2]) {
        if (x * y * z > kWarpgroupRows) break;
        if (x * y * z >= least) boxes.push_back({x, y, z});
      }
    }
  }
  return boxes;
}

/// Smaller boxes than that only waste rows, unless there are hardly enough boxes for all multiprocessors.
std::int64_t least_box_volume(const Problem& grid, Method method, const Shape& members) {
  constexpr std::int64_t kEnoughBoxes = 800;
  constexpr std::int64_t kLeast = 40;
  const std::int64_t boxes = grid.batch * (grid.heads / joined_heads(method)) * grid.tokens() / kWarpgroupRows;
  return boxes < kEnoughBoxes ? 1 : std::min(kLeast, volume(members));
}

/// Tiles of at most `most` positions, none of which fits into another. More columns never are more visits.
std::vector<Shape> tiles_of(std::int64_t most, const Shape& members) {
  std::vector<Shape> tiles;
  for (std::int64_t x = 1; x <= std::min(most, members[0]); ++x) {
    for (std::int64_t y = 1; y <= std::min(most / x, members[1]); ++y) {
      const std::int64_t z = std::min(most / (x * y), members[2]);
      const bool grows_x = x < members[0] && (x + 1) * y * z <= most;
      const bool grows_y = y < members[1] && x * (y + 1) * z <= most;
      if (!grows_x && !grows_y) tiles.push_back({x, y, z});
    }
  }
  return tiles;
}

/// Boxes by the places of their extents among all extents of an axis, by which tables are made.
class BoxList {
 public:
  using Places = std::array<std::uint8_t, 3>;

  /// In order of their extents, none of which is longer than `longest`.
  BoxList(const std::vector<Shape>& shapes, std::int64_t longest) : places_(shapes.size()) {
    std::vector<std::uint8_t> place(longest + 1);
    for (int a = 0; a < 3; ++a) {
      std::ranges::fill(place, std::uint8_t{0});
      for (const Shape& shape : shapes) place[shape[a]] = 1;
      for (std::int64_t extent = 1; extent <= longest; ++extent) {
        if (place[extent] == 0) continue;
        place[extent] = static_cast<std::uint8_t>(extents_[a].size());
        extents_[a].push_back(extent);
        reciprocals_[a].push_back(1.0 / static_cast<double>(extent));
      }
      for (std::size_t i = 0; i < shapes.size(); ++i) places_[i][a] = place[shapes[i][a]];
    }
    ends_.resize(extents_[0].size());
    for (std::size_t i = 0; i < places_.size(); ++i) ends_[places_[i][0]] = i + 1;
  }

  /// That boxes have along an axis.
  [[nodiscard]] std::span<const std::int64_t> extents(int axis) const { return extents_[axis]; }
  [[nodiscard]] std::span<const double> reciprocals(int axis) const { return reciprocals_[axis]; }
  /// Of all boxes, in order of their extents.
  [[nodiscard]] std::span<const Places> places() const { return places_; }
  /// The index behind the last box whose extent along the first axis is number `x`.
  [[nodiscard]] std::size_t end_of(std::size_t x) const { return ends_[x]; }
  [[nodiscard]] Shape shape(const Places& places) const {
    return {extents_[0][places[0]], extents_[1][places[1]], extents_[2][places[2]]};
  }

 private:
  std::array<std::vector<std::int64_t>, 3> extents_;
  std::array<std::vector<double>, 3> reciprocals_;
  std::vector<Places> places_;
  std::vector<std::size_t> ends_;
};

/// What boxes come to along one axis in one pass, by their extent and that of tiles; made when first asked for.
class AxisTable {
 public:
  AxisTable(const Problem& grid, int axis, RowKind rows, std::int64_t boxes, std::int64_t most_blocks,
            const BoxList& all_boxes, const BoxList& all_tiles)
      : grid_(grid),
        axis_(axis),
        kept_(rows),
        boxes_(boxes),
        most_blocks_(most_blocks),
        box_extents_(all_boxes.extents(axis)),
        tile_extents_(all_tiles.extents(axis)),
        reciprocals_(all_tiles.reciprocals(axis)),
        rows_(box_extents_.size()) {}

  /// (Warpgroup, token that passes by) pairs of boxes of one extent.
  double tokens(std::size_t box) { return row(box).spans.tokens(); }

  /// By the extent of a tile.
  const double* visited(std::size_t box) {
    Row& row = this->row(box);
    if (row.visited.empty()) {
      row.visited.resize(reciprocals_.size());
      row.spans.add_visited(reciprocals_, row.visited.data());
    }
    return row.visited.data();
  }

  const Work& work(std::size_t box, std::size_t tile) {
    Row& row = this->row(box);
    if (row.works.empty()) row.works.resize(tile_extents_.size(), Work{.items = 0});
    Work& work = row.works[tile];
    if (work.items == 0) work = row.spans.work(tile_extents_[tile]);
    return work;
  }

 private:
  struct Row {
    AxisSpans spans;
    bool made = false;
    std::vector<double> visited;
    std::vector<Work> works;
  };
  Row& row(std::size_t box) {
    Row& row = rows_[box];
    if (!row.made) row.spans = AxisSpans(grid_, axis_, kept_, box_extents_[box], boxes_, most_blocks_);
    row.made = true;
    return row;
  }

  const Problem& grid_;
  int axis_;
  RowKind kept_;
  std::int64_t boxes_;
  std::int64_t most_blocks_;
  std::span<const std::int64_t> box_extents_, tile_extents_;
  std::span<const double> reciprocals_;
  std::vector<Row> rows_;
};

/// A tiling and its estimate.
struct Estimate {
  double seconds;
  Tiling tiling;
};

/// The best tilings seen so far, at most `count`.
class Shortlist {
 public:
  explicit Shortlist(std::size_t count) : count_(count) { best_.reserve(std::min<std::size_t>(count, 64)); }

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
    tilings.reserve(best_.size());
    for (const Estimate& estimate : best_) tilings.push_back(estimate.tiling);
    return tilings;
  }

 private:
  std::size_t count_;
  std::vector<Estimate> best_;  // a heap with the worst in front
};

/// The tilings of one class: boxes that are laid side by side along one axis, and tiles.
template <std::size_t kPasses>
class ClassSearch {
 public:
  /// A box, where those of a block lie side by side, and what it takes if no tile is padded or masked.
  struct Start {
    double least;
    double items;
    ClassSearch* search;
    BoxList::Places box;
    int axis;
  };

  ClassSearch(const Problem& grid, Method method, const KernelClass& size, const Shape& members, const BoxList& boxes)
      : grid_(grid),
        size_(size),
        boxes_(boxes),
        members_(members),
        tiles_(tiles_of(size.columns, members), size.columns),
        model_(grid, method, size) {
    // The more axes, the more rows have all tables together, and the less exact each must be.
    const std::int64_t most_blocks = long_axes(members) == 3 ? 8 : long_axes(members) == 2 ? 64 : 512;
    tables_.reserve(kPasses * 6);
    for (const RowKind rows : passes_of(method)) {
      for (const std::int64_t side_by_side : {1, size.warpgroups}) {
        for (int a = 0; a < 3; ++a) tables_.emplace_back(grid, a, rows, side_by_side, most_blocks, boxes_, tiles_);
      }
    }
    tile_costs_.reserve(tiles_.places().size());
    for (const BoxList::Places& tile : tiles_.places()) {
      tile_costs_.push_back(model_.tile(tiles_.shape(tile)));
    }
  }

  /// Adds the `most` starts of the least bounds.
  void add_starts(std::vector<Start>& starts, std::size_t most) {
    const std::ptrdiff_t others = std::ssize(starts);
    const auto add = [&](const Start& start) {
      const auto first = starts.begin() + others;  // of a heap with the worst in front, once it is full
      if (starts.size() - others < most) {
        starts.push_back(start);
        if (starts.size() - others == most)
          std::ranges::make_heap(starts.begin() + others, starts.end(), {}, &Start::least);
      } else if (start.least < first->least) {
        std::ranges::pop_heap(first, starts.end(), {}, &Start::least);
        starts.back() = start;
        std::ranges::push_heap(first, starts.end(), {}, &Start::least);
      }
    };
    using Items = std::array<std::vector<double>, 3>;
    Items of_boxes, of_blocks;
    for (int a = 0; a < 3; ++a) {
      for (const std::int64_t extent : boxes_.extents(a)) {
        of_boxes[a].push_back(blocks_along(grid_, a, extent));
        of_blocks[a].push_back(blocks_along(grid_, a, extent * size_.warpgroups));
      }
    }
    for (const BoxList::Places& box : boxes_.places()) {
      const std::array<double, kPasses> tiles = least_tiles(box);
      for (int axis = 0; axis < 3; ++axis) {
        if (!splits(boxes_.shape(box), axis)) continue;
        double items = 1;
        for (int a = 0; a < 3; ++a) items *= (a == axis ? of_blocks : of_boxes)[a][box[a]];
        double least = 0;
        for (std::size_t pass = 0; pass < kPasses; ++pass) {
          const double idling = model_.idling(pass, items);
          least += model_.fixed_seconds(pass, items, idling) + model_.visit_seconds(pass, idling) * tiles[pass];
        }
        add({least, items, this, box, axis});
      }
    }
  }

  /// Adds the tilings of a start to those that are best.
  void add_tilings(const Start& start, Shortlist& best) {
    std::array<std::array<const double*, 3>, kPasses> visited{};
    // Seconds of a visit, and of all others per token along the first axis if tiles are padded there alone.
    std::array<double, kPasses> visit{}, padded_visit{};
    std::array<double, kPasses> idling{};
    double fixed = 0;
    const std::array<double, kPasses> tiles = least_tiles(start.box);
    for (std::size_t pass = 0; pass < kPasses; ++pass) {
      for (int a = 0; a < 3; ++a) visited[pass][a] = table(pass, a == start.axis, a).visited(start.box[a]);
      idling[pass] = model_.idling(pass, start.items);
      fixed += model_.fixed_seconds(pass, start.items, idling[pass]);
      visit[pass] = model_.visit_seconds(pass, idling[pass]);
      padded_visit[pass] = visit[pass] * tiles[pass] / table(pass, false, 0).tokens(start.box[0]);
    }
    const std::span<const BoxList::Places> places = tiles_.places();
    double limit = best.limit() - fixed;
    std::size_t t = 0;
    for (std::size_t x = 0; x < tiles_.extents(0).size(); ++x) {
      const std::size_t end = tiles_.end_of(x);
      std::array<double, kPasses> visit_x{};
      double padded = 0;
      for (std::size_t pass = 0; pass < kPasses; ++pass) {
        visit_x[pass] = visit[pass] * visited[pass][0][x];
        padded += padded_visit[pass] * visited[pass][0][x];
      }
      if (padded * static_cast<double>(tiles_.extents(0)[x]) >= limit) t = end;
      for (; t < end; ++t) {
        const auto [_, y, z] = places[t];
        double least = 0;
        for (std::size_t pass = 0; pass < kPasses; ++pass) {
          least += visit_x[pass] * visited[pass][1][y] * visited[pass][2][z];
        }
        if (least >= limit) continue;
        add_tiling(start, t, idling, best);
        limit = best.limit() - fixed;
      }
    }
  }

 private:
  AxisTable& table(std::size_t pass, bool side_by_side, int axis) {
    return tables_[(pass * 2 + (side_by_side ? 1 : 0)) * 3 + static_cast<std::size_t>(axis)];
  }

  /// Whether boxes of a block may lie side by side along an axis: there should be work for all of them.
  [[nodiscard]] bool splits(const Shape& box, int axis) const {
    const bool one_box = size_.warpgroups == 1 || box == members_;
    return one_box ? axis == 0 : box[axis] < members_[axis];
  }

  /// The fewest tiles that boxes can see.
  std::array<double, kPasses> least_tiles(const BoxList::Places& box) {
    std::array<double, kPasses> tiles{};
    for (std::size_t pass = 0; pass < kPasses; ++pass) {
      tiles[pass] = 1.0 / size_.columns;
      for (int a = 0; a < 3; ++a) tiles[pass] *= table(pass, false, a).tokens(box[a]);
    }
    return tiles;
  }

  void add_tiling(const Start& start, std::size_t tile, const std::array<double, kPasses>& idling, Shortlist& best) {
    const BoxList::Places& places = tiles_.places()[tile];
    double seconds = 0;
    for (std::size_t pass = 0; pass < kPasses; ++pass) {
      Work work;
      for (int a = 0; a < 3; ++a) work *= table(pass, a == start.axis, a).work(start.box[a], places[a]);
      seconds += model_.seconds(pass, work, tile_costs_[tile], idling[pass]);
    }
    if (seconds >= best.limit()) return;
    Tiling tiling{.query_tile = boxes_.shape(start.box),
                  .key_tile = tiles_.shape(places),
                  .block = {1, 1, 1},
                  .rows = kWarpgroupRows,
                  .columns = size_.columns};
    tiling.block[start.axis] = size_.warpgroups;
    best.add({seconds, tiling});
  }

  const Problem& grid_;
  const KernelClass& size_;
  const BoxList& boxes_;
  Shape members_;
  BoxList tiles_;
  CostModel model_;
  std::vector<CostModel::Tile> tile_costs_;
  std::vector<AxisTable> tables_;  // by pass, whether boxes lie side by side along the axis, and axis
};

/// The most members of a dilation group along each axis.
Shape members_of(const Problem& grid) {
  Shape members{};
  for (int a = 0; a < 3; ++a) members[a] = group_members(grid.layout[a], grid.dilation[a], std::int64_t{0});
  return members;
}

template <std::size_t kPasses>
std::vector<Tiling> tilings(const Problem& grid, Method method, std::size_t count) {
  using Search = ClassSearch<kPasses>;
  // Looked at where one tiling is wanted: the others hardly ever hold it. As many of each class, since bounds leave out
  // masks, which cost one class more than the other.
  constexpr std::size_t kMostStarts = 48;
  const Shape members = members_of(grid);
  const BoxList boxes(boxes_of(grid, members, least_box_volume(grid, method, members)), kWarpgroupRows);
  std::vector<Search> searches;
  searches.reserve(classes_of(method).size());  // starts point at them
  for (const KernelClass& size : classes_of(method)) {
    if (size.dim == dim_of_class(grid, method)) searches.emplace_back(grid, method, size, members, boxes);
  }
  const std::size_t most = count == 1 ? kMostStarts / searches.size() : std::numeric_limits<std::size_t>::max();
  std::vector<typename Search::Start> starts;
  if (count == 1) starts.reserve(kMostStarts);
  for (Search& search : searches) search.add_starts(starts, most);
  std::ranges::sort(starts, {}, &Search::Start::least);
  Shortlist best(count);
  for (const auto& start : starts) {
    if (start.least >= best.limit()) break;
    start.search->add_tilings(start, best);
  }
  return best.tilings();
}

Status supports(const Problem& grid, std::int64_t most_dim) {
  if (grid.dtype != DType::fp16 && grid.dtype != DType::bf16) {
    return Status::refuse(fmt::format("dtype = {}; allowed: fp16, bf16", name_of(grid.dtype)));
  }
  if (std::max(grid.dim, grid.dim_v) > most_dim) {
    return Status::refuse(fmt::format("dim = {}, dim_v = {}; allowed: up to {}", grid.dim, grid.dim_v, most_dim));
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

Status accepts(const Problem& grid, Method method, const Tiling& tiling) {
  const KernelClass* size = class_of(grid, method, volume(tiling.block));
  if (size == nullptr || std::ranges::count(tiling.block, 1) < 2) {
    return Status::refuse(
        fmt::format("tiling.block = {}; allowed: 2 along one axis{}", fmt::join(tiling.block, "x"),
                    method == Method::backward_one_pass ? "" : ", or 1x1x1 where the head dim is at most 64"));
  }
  if (tiling.rows != kWarpgroupRows || tiling.columns != size->columns) {
    return Status::refuse(fmt::format("tiling.rows = {}, tiling.columns = {}; allowed for such blocks: {}, {}",
                                      tiling.rows, tiling.columns, kWarpgroupRows, size->columns));
  }
  constexpr std::int64_t kMostItems = std::numeric_limits<std::int32_t>::max() / 2;  // blocks step beyond the last
  if (const std::int64_t items = work_items(grid, tiling); items > kMostItems) {
    return Status::refuse(fmt::format("{} work items; allowed: up to {}", items, kMostItems));
  }
  return {};
}

/// Multiply-adds of a pass, for `pairs` pairs of slots.
double multiply_adds_of_pass(const Problem& grid, Method method, const KernelClass& size, RowKind rows, double pairs) {
  const double forward = multiply_adds(grid, Operation::forward, pairs);
  if (is_forward(method)) return forward;
  // S and dP are made in each of two passes: seven products, or eight, instead of the five that multiply_adds counts.
  // S, dP and dQ are all but dV and dK; S, dP, dV and dK twice a forward pass; and with S once more as many as those
  // five.
  const double backward = multiply_adds(grid, Operation::backward, pairs);
  if (rows == RowKind::queries) return backward - forward;
  return products_over_keys(method, size) == 4 ? 2 * forward : backward;
}

Cost cost(const Problem& grid, Method method, const Tiling& tiling) {
  constexpr std::int64_t kMostBlocks = 1024;  // more along an axis are not looked at one by one
  const KernelClass& size = *class_of(grid, method, volume(tiling.block));
  const std::span<const RowKind> passes = passes_of(method);
  const std::int64_t tile_volume = volume(tiling.key_tile);
  const double slots = static_cast<double>(tiling.rows * tiling.columns);
  const Operation operation = is_forward(method) ? Operation::forward : Operation::backward;
  Cost cost{.needed_multiply_adds = multiply_adds(grid, operation, needed_pairs(grid)),
            .bytes = compulsory_bytes(grid, operation)};
  std::array<Work, kMostPasses> works;
  for (std::size_t pass = 0; pass < passes.size(); ++pass) {
    Work& work = works[pass];
    for (int a = 0; a < 3; ++a) {
      work *=
          AxisSpans(grid, a, passes[pass], tiling.query_tile[a], tiling.block[a], kMostBlocks).work(tiling.key_tile[a]);
    }
    const std::int64_t tiles_of_extra = passes[pass] == RowKind::queries ? ceil_div(grid.extra_kv, tile_volume) : 0;
    const double visited = work.visited + work.items * static_cast<double>(size.warpgroups * tiles_of_extra);
    const double masked = tile_volume == size.columns ? visited - work.unmasked : visited;
    cost.visited_multiply_adds += multiply_adds_of_pass(grid, method, size, passes[pass], visited * slots);
    cost.masked_multiply_adds += multiply_adds_of_pass(grid, method, size, passes[pass], masked * slots);
    const std::int64_t heads = passes[pass] == RowKind::queries ? grid.heads : grid.heads_kv;
    cost.work_items += static_cast<double>(grid.batch * heads) / joined_heads(method) * work.items;
  }
  if (method == Method::backward) {
    // The gradients of extra tokens come from a kernel of their own.
    const double extra_pairs = static_cast<double>(grid.tokens()) * static_cast<double>(grid.extra_kv);
    cost.visited_multiply_adds += 2 * multiply_adds(grid, Operation::forward, extra_pairs);
  }
  cost.seconds = CostModel(grid, method, size).seconds(std::span(works).first(passes.size()), tiling.key_tile);
  return cost;
}

}  // namespace

Status forward_supports(const Problem& grid) { return supports(grid, kForwardClasses.back().dim); }

Status forward_pairs_supports(const Problem& grid) {
  constexpr std::int64_t kDim = kForwardPairsClasses.front().dim;
  if (grid.dim != kDim || grid.dim_v != kDim) {
    return Status::refuse(fmt::format("dim = {}, dim_v = {}; allowed: {}", grid.dim, grid.dim_v, kDim));
  }
  if (grid.heads != grid.heads_kv || grid.heads % kPairedHeads != 0) {
    return Status::refuse(
        fmt::format("heads = {}, heads_kv = {}; allowed: the same even number", grid.heads, grid.heads_kv));
  }
  return supports(grid, kDim);
}

Status backward_supports(const Problem& grid) { return supports(grid, kBackwardClasses.back().dim); }

Status backward_one_pass_supports(const Problem& grid) {
  if (grid.extra_kv > 0) return Status::refuse(fmt::format("extra_kv = {}; allowed: 0", grid.extra_kv));
  constexpr double kLeastScale = 1e-30;  // the kernel divides by it
  if (std::abs(grid.effective_scale()) < kLeastScale) {
    return Status::refuse(fmt::format("scale = {}; allowed: magnitudes from {}", grid.effective_scale(), kLeastScale));
  }
  return supports(grid, kOnePassClasses.back().dim);
}

Status forward_accepts(const Problem& grid, const Tiling& tiling) { return accepts(grid, Method::forward, tiling); }

Status forward_pairs_accepts(const Problem& grid, const Tiling& tiling) {
  return accepts(grid, Method::forward_pairs, tiling);
}

Status backward_accepts(const Problem& grid, const Tiling& tiling) { return accepts(grid, Method::backward, tiling); }

Status backward_one_pass_accepts(const Problem& grid, const Tiling& tiling) {
  return accepts(grid, Method::backward_one_pass, tiling);
}

Tiling forward_tiling(const Problem& grid) { return forward_tilings(grid, 1).front(); }

Tiling forward_pairs_tiling(const Problem& grid) { return forward_pairs_tilings(grid, 1).front(); }

Tiling backward_tiling(const Problem& grid) { return backward_tilings(grid, 1).front(); }

Tiling backward_one_pass_tiling(const Problem& grid) { return backward_one_pass_tilings(grid, 1).front(); }

std::vector<Tiling> forward_tilings(const Problem& grid, std::size_t count) {
  return tilings<1>(grid, Method::forward, count);
}

std::vector<Tiling> forward_pairs_tilings(const Problem& grid, std::size_t count) {
  return tilings<1>(grid, Method::forward_pairs, count);
}

std::vector<Tiling> backward_tilings(const Problem& grid, std::size_t count) {
  return tilings<2>(grid, Method::backward, count);
}

std::vector<Tiling> backward_one_pass_tilings(const Problem& grid, std::size_t count) {
  return tilings<1>(grid, Method::backward_one_pass, count);
}

Cost forward_cost(const Problem& grid, const Tiling& tiling) { return cost(grid, Method::forward, tiling); }

Cost forward_pairs_cost(const Problem& grid, const Tiling& tiling) { return cost(grid, Method::forward_pairs, tiling); }

Cost backward_cost(const Problem& grid, const Tiling& tiling) { return cost(grid, Method::backward, tiling); }

Cost backward_one_pass_cost(const Problem& grid, const Tiling& tiling) {
  return cost(grid, Method::backward_one_pass, tiling);
}

}  // namespace vicinal::cuda::sm90
