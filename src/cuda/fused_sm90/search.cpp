#include "cuda/fused_sm90/search.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <utility>

#include "core/tiling.h"
#include "cuda/fused_sm90/classes.h"

namespace vicinal::cuda::sm90 {
namespace {

// A plan is often the first that its process makes: memory that it touches and branches that it meets for the first
// time cost more than the arithmetic. Hence small tables, which sizes of a kernel share, and few branches that depend
// on the problem.

using Shape = PerAxis<std::int64_t>;

constexpr int kLongest = 128;  // extents of boxes and tiles

/// The places of extents in the lists of their axes.
using Places = std::array<std::uint8_t, 3>;

/// Extents along an axis, in ascending order.
class Extents {
 public:
  void add(int extent) { extents_[size_++] = static_cast<std::uint8_t>(extent); }
  [[nodiscard]] std::uint8_t size() const { return size_; }
  int operator[](std::size_t place) const { return extents_[place]; }

 private:
  std::array<std::uint8_t, kLongest> extents_;
  std::uint8_t size_ = 0;
};

Shape shape_of(const PerAxis<Extents>& extents, const Places& places) {
  return {extents[0][places[0]], extents[1][places[1]], extents[2][places[2]]};
}

/// The most members of a dilation group along each axis.
PerAxis<int> members_of(const Problem& grid) {
  PerAxis<int> members{};
  for (int a = 0; a < 3; ++a) {
    members[a] = static_cast<int>(group_members(grid.layout[a], grid.dilation[a], std::int64_t{0}));
  }
  return members;
}

/// Axes along which there is a choice.
std::ptrdiff_t long_axes(const PerAxis<int>& members) { return 3 - std::ranges::count(members, 1); }

/// How many blocks of each part of an axis are enough to look at. The more axes, the more extents of boxes they have
/// all together; and where windows do not move by strides, what blocks see changes evenly.
PerAxis<int> most_blocks_of(const Problem& grid, const PerAxis<int>& members) {
  constexpr std::array kStrided{16, 16, 8};  // by the number of long axes
  constexpr int kEven = 8;
  const int strided = kStrided[std::max<std::ptrdiff_t>(long_axes(members), 1) - 1];
  PerAxis<int> most{};
  for (int a = 0; a < 3; ++a) most[a] = grid.stride[a] > 1 ? strided : std::min(strided, kEven);
  return most;
}

/// Whether boxes see the same along two axes. Their extents and those of tiles are the same then, too.
bool are_alike(const Problem& grid, int a, int b) {
  return grid.layout[a] == grid.layout[b] && grid.window[a] == grid.window[b] && grid.stride[a] == grid.stride[b] &&
         grid.dilation[a] == grid.dilation[b] && grid.causal[a] == grid.causal[b];
}

/// Whether boxes of an extent along an axis are the longest of which as many fit into the rows.
constexpr auto kFillsRows = [] {
  std::array<bool, kWarpgroupRows + 1> fills{};
  for (int extent = 1; extent <= kWarpgroupRows; ++extent) {
    fills[extent] = kWarpgroupRows / (kWarpgroupRows / extent) == extent;
  }
  return fills;
}();

/// Boxes of tokens for a warpgroup that are worth a look: all of these extents and with no less than that volume.
struct Boxes {
  PerAxis<Extents> extents;
  int least_volume = 1;
};

Boxes boxes_of(const Problem& grid, Method method, const PerAxis<int>& members) {
  Boxes boxes;
  // Smaller boxes only waste rows, unless there are hardly enough boxes for all multiprocessors.
  constexpr std::int64_t kEnoughBoxes = 800;
  constexpr std::int64_t kLeastVolume = 40;
  constexpr std::int64_t kLeastOfFew = 24;
  const std::int64_t count = grid.batch * (grid.heads / joined_heads(method)) * grid.tokens() / kWarpgroupRows;
  std::int64_t volume = 1;
  for (const int extent : members)
    volume = std::min(volume * extent, count >= kEnoughBoxes ? kLeastVolume : kLeastOfFew);
  boxes.least_volume = static_cast<int>(volume);
  const bool few = long_axes(members) == 1;  // so few that all of them can be looked at
  for (int a = 0; a < 3; ++a) {
    if (a > 0 && are_alike(grid, a - 1, a)) {
      boxes.extents[a] = boxes.extents[a - 1];
      continue;
    }
    const auto stride = static_cast<int>(grid.stride[a]);
    const auto window = static_cast<int>(grid.window[a]);
    // Shorter ones are too short however long boxes are along the other axes.
    const std::int64_t others = std::int64_t{members[(a + 1) % 3]} * members[(a + 2) % 3];
    const auto shortest = static_cast<int>((boxes.least_volume + others - 1) / others);
    int of_shorter = shortest > 1 ? (members[a] - 1) / (shortest - 1) + 1 : 0;
    for (int extent = shortest; extent <= std::min(kWarpgroupRows, members[a]); ++extent) {
      // The shortest of those that cut the axis into as many boxes see the least; others fill all rows, or see as much
      // as tiles hold; whole strides, or equal parts of them, share windows.
      const int boxes_along = (members[a] - 1) / extent + 1;
      const bool fills_rows = kFillsRows[extent];
      const bool fills_tiles = long_axes(members) == 2 && (window + extent - 1) % 4 == 0;
      const bool fits_strides = stride > 1 && (extent % stride == 0 || stride % extent == 0);
      if (few || boxes_along != of_shorter || fills_rows || fills_tiles || fits_strides) boxes.extents[a].add(extent);
      of_shorter = boxes_along;
    }
  }
  return boxes;
}

/// Tiles, by the places of their extents. Those of several sizes of a kernel share the lists of extents.
class Tiles {
 public:
  explicit Tiles(const PerAxis<int>& members) : members_(members) { tiles_.reserve(256); }

  /// Adds the tiles of at most `most` tokens none of which fits into another: more columns never are more visits.
  void add(int most) {
    std::array<int, kLongest + 1> parts;  // how often a length goes into `most`
    for (int length = 1; length <= most; ++length) parts[length] = most / length;
    const auto goes = [&](int length) { return parts[static_cast<std::size_t>(length)]; };
    for (int x = 1; x <= std::min(most, members_[0]); ++x) {
      for (int y = 1; y <= std::min(goes(x), members_[1]); ++y) {
        const int z = std::min(goes(x * y), members_[2]);
        y = std::min(goes(x * z), members_[1]);  // as long as goes with that z
        if (x < members_[0] && (x + 1) * y * z <= most) continue;
        tiles_.push_back({static_cast<std::uint8_t>(x), static_cast<std::uint8_t>(y), static_cast<std::uint8_t>(z)});
      }
    }
  }

  /// To be called once, behind `add` and before all else: puts places for extents.
  void list_extents() {
    for (int a = 0; a < 3; ++a) {
      std::array<std::uint8_t, kLongest + 1> place{};
      for (const Places& tile : tiles_) place[tile[a]] = 1;
      for (int extent = 1; extent <= kLongest; ++extent) {
        if (place[extent] == 0) continue;
        place[extent] = extents_[a].size();
        reciprocals_[a][extents_[a].size()] = 1.0F / static_cast<float>(extent);
        extents_[a].add(extent);
      }
      for (Places& tile : tiles_) tile[a] = place[tile[a]];
    }
  }

  [[nodiscard]] std::size_t size() const { return tiles_.size(); }
  [[nodiscard]] std::span<const Places> of(std::size_t begin, std::size_t end) const {
    return std::span(tiles_).subspan(begin, end - begin);
  }
  [[nodiscard]] Shape shape(const Places& tile) const { return shape_of(extents_, tile); }
  [[nodiscard]] std::span<const float> reciprocals(int axis) const {
    return std::span(reciprocals_[axis]).first(extents_[axis].size());
  }

 private:
  PerAxis<int> members_;
  std::vector<Places> tiles_;
  PerAxis<Extents> extents_;
  PerAxis<std::array<float, kLongest>> reciprocals_;
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
  [[nodiscard]] std::vector<Estimate> estimates() && {
    std::ranges::sort(best_, {}, &Estimate::seconds);
    return std::move(best_);
  }

 private:
  std::size_t count_;
  std::vector<Estimate> best_;  // a heap with the worst in front
};

class Search {
 public:
  Search(const Problem& grid, Method method)
      : members_(members_of(grid)),
        forward_(is_forward(method)),
        boxes_(boxes_of(grid, method, members_)),
        tiles_(members_) {
    const std::span<const KernelClass> classes = classes_of(method);
    const int dim = class_dim_of(grid, method);
    sizes_.reserve(classes.size());
    for (const KernelClass& kernel : classes) {
      if (kernel.dim != dim) continue;
      const std::size_t begin = tiles_.size();
      tiles_.add(kernel.columns);
      sizes_.push_back({kernel, CostModel(grid, method, kernel), begin, tiles_.size(), short_extent(kernel.columns)});
    }
    tiles_.list_extents();

    const PerAxis<int> most_blocks = most_blocks_of(grid, members_);
    spans_.reserve(kMostPasses);
    for (const RowKind rows : passes_of(method)) {
      spans_.emplace_back(grid, rows, most_blocks);
      spans_.back().reserve_for_search();
    }
    for (int a = 0; a < 3; ++a) {
      int as = 0;
      while (as < a && !are_alike(grid, as, a)) ++as;
      first_extent_[a] = as < a ? first_extent_[as] : all_extents_;
      if (as == a) all_extents_ += boxes_.extents[a].size();
    }
    rows_.resize(spans_.size() * kMostWarpgroups * all_extents_);
    extents_.resize(all_extents_);
    visits_.reserve(2048);
    visits_.resize(1);
    work_numbers_.reserve(2048);
    works_.reserve(256);
  }

  std::vector<Estimate> best(std::size_t count) {
    // Looked at where few tilings are wanted: the others hardly ever hold them; fewer forward where there are many, as
    // plans are waited for. As many of each size, since the bounds of one are farther below what it takes than those of
    // another.
    const bool few = count <= kFewTilings;
    hurries_ = few && forward_ && long_axes(members_) > 1;
    const std::size_t most_starts = hurries_ ? 32 : 48;
    const std::size_t most = few ? most_starts / sizes_.size() : std::numeric_limits<std::size_t>::max() / kMostOver;
    std::vector<Start> starts;
    starts.reserve(kMostOver * most_starts);
    for (std::size_t size = 0; size < sizes_.size(); ++size) add_starts(size, most, starts);
    std::ranges::sort(starts, {}, &Start::order);
    Shortlist best(count);
    for (const Start& start : starts) {
      if (start.least() >= worth_estimating(best)) break;
      add_tilings(start, best);
    }
    return std::move(best).estimates();
  }

 private:
  static constexpr std::size_t kMostWarpgroups = 2;
  static constexpr std::size_t kMostOver = 5;  ///< times as many starts as are wanted are kept before some are dropped
  /// Of tilings that are equal otherwise, those are faster whose tiles are long along the last axis: by so little that
  /// it decides between them alone.
  static constexpr double kLongerRuns = 1e-8;
  /// Likewise those are slower, forward, whose boxes are long: 1 x 64 took 2% longer than 8 x 8 where all tiles are
  /// whole.
  static constexpr double kLongerBoxes = 1e-8;
  static constexpr double kRounding = 1e-6;  ///< of estimates in floats
  static constexpr double kCertain = 0.9;    ///< of what is estimated for blocks that wait, hardly any tiling is below

  /// A size of the kernel, and which tiles it takes.
  struct Size {
    const KernelClass& kernel;
    CostModel model;
    std::size_t first_tile, end_of_tiles;
    double short_extent;  ///< hardly any extent of a tile is less

    /// Boxes of a block along an axis, where they lie side by side along another.
    [[nodiscard]] int side_by_side(int axis, int split_axis) const {
      return 1 + static_cast<int>(axis == split_axis) * (kernel.warpgroups - 1);
    }
  };

  /// Boxes of a size, and where those of a block lie side by side.
  struct Start {
    std::uint64_t order;  ///< The bits of the seconds that it takes at least, and of equal ones always the same first
    Places box;
    std::uint8_t axis, size;

    [[nodiscard]] float least() const { return std::bit_cast<float>(static_cast<std::uint32_t>(order >> 32)); }
  };
  [[nodiscard]] Start start(float least, const Places& box, std::uint8_t axis, std::size_t size) const {
    // Boxes side by side along the first axis forward, along the last one backward, were a little faster in most
    // studies.
    const unsigned preferred = forward_ ? axis : 2U - axis;
    const std::uint32_t among_equals = preferred << 30 | unsigned{box[0]} << 22 | unsigned{box[1]} << 14 |
                                       unsigned{box[2]} << 6 | static_cast<unsigned>(size);
    const std::uint64_t bits = std::bit_cast<std::uint32_t>(std::max(least, 0.0F));
    return {bits << 32 | among_equals, box, axis, static_cast<std::uint8_t>(size)};
  }

  /// Boxes of one extent along one axis in one pass, so many side by side.
  struct Row {
    Spans::Boxes boxes;
    std::uint32_t visits = 0;  ///< where those of the tiles of all extents are; 0: not counted yet
  };

  /// Less than half of a cube's extent; in whole numbers, since the first call of a function of libm takes long.
  [[nodiscard]] double short_extent(int columns) const {
    constexpr double kShort = 0.45;
    const std::ptrdiff_t axes = long_axes(members_);
    if (axes <= 1) return kShort * columns;
    int extent = 1;
    while ((extent + 1) * (extent + 1) * (axes == 3 ? extent + 1 : 1) <= columns) ++extent;
    return kShort * extent;
  }

  Row& row(std::size_t pass, int side_by_side, int axis, std::size_t place) {
    Row& row = rows_[(pass * kMostWarpgroups + side_by_side - 1) * all_extents_ + first_extent_[axis] + place];
    if (row.boxes.items == 0) row.boxes = spans_[pass].add(axis, boxes_.extents[axis][place], side_by_side);
    return row;
  }

  /// Where visits of the tiles of all extents are, with what lone ones add to them.
  std::size_t visits(std::size_t pass, const Size& size, int side_by_side, int axis, std::size_t place) {
    Row& row = this->row(pass, side_by_side, axis, place);
    if (row.visits == 0) {
      const std::span<const float> reciprocals = tiles_.reciprocals(axis);
      row.visits = static_cast<std::uint32_t>(visits_.size());
      visits_.resize(visits_.size() + reciprocals.size());
      work_numbers_.resize(visits_.size());
      const auto [visited, loaded] = side_by_side > 1 ? size.model.shares(pass) : CostModel::Shares{1, 0};
      spans_[pass].add_tiles(row.boxes, reciprocals, static_cast<float>(visited), static_cast<float>(loaded),
                             &visits_[row.visits]);
    }
    return row.visits;
  }

  /// What tiles of an extent come to for boxes; `visit` is where their visits are.
  const Work& work(std::size_t pass, const Spans::Boxes& boxes, std::int64_t tile, std::size_t visit) {
    std::uint32_t& number = work_numbers_[visit];
    if (number == 0) {
      works_.push_back(spans_[pass].work(boxes, tile));
      number = static_cast<std::uint32_t>(works_.size());
    }
    return works_[number - 1];
  }

  /// The fewest tiles that boxes can visit, the most that they can see whole, along how many axes they cannot, and,
  /// about, how many a long one and the mean need; and their rows. Of boxes along one axis, or of several together.
  struct Counts {
    double visited, unmasked, axes, longest, mean, rows;

    friend Counts operator*(const Counts& a, const Counts& b) {
      return {a.visited * b.visited, a.unmasked * b.unmasked, a.axes + b.axes,
              a.longest * b.longest, a.mean * b.mean,         a.rows * b.rows};
    }
  };
  /// Those of no axis.
  static Counts no_counts(const Size& size) {
    const double tile = 1.0 / size.kernel.columns;
    return {tile, tile, 0, tile, tile, 1};
  }
  Counts counts_along(std::size_t pass, const Size& size, int axis, std::size_t place) {
    const Spans::Boxes& boxes = row(pass, 1, axis, place).boxes;
    const double of_many = std::max(boxes.common - boxes.items * size.short_extent, 0.0);
    return {boxes.tokens,
            boxes.common,
            boxes.common < boxes.tokens ? 1 - of_many / boxes.tokens : 0,
            static_cast<double>(boxes.longest),
            boxes.halos / boxes.items,
            boxes.rows};
  }
  Counts counts(std::size_t pass, const Size& size, const Places& box) {
    Counts counts = no_counts(size);
    for (int a = 0; a < 3; ++a) counts = counts * counts_along(pass, size, a, box[a]);
    return counts;
  }

  /// Boxes of one extent along one axis.
  struct Extent {
    std::array<double, 2> boxes;  ///< how many there are; where those of a block lie side by side, how many blocks
    std::array<Counts, kMostPasses> counts;
  };

  /// Adds the `most` starts of a size that have the least bounds.
  void add_starts(std::size_t size_number, std::size_t most, std::vector<Start>& starts) {
    const Size& size = sizes_[size_number];
    const PerAxis<Extents>& extents = boxes_.extents;
    const std::size_t passes = spans_.size();
    std::size_t done = 0;
    for (int a = 0; a < 3; ++a) {
      if (first_extent_[a] < done) continue;  // as along another axis
      for (std::size_t i = 0; i < extents[a].size(); ++i) {
        Extent& extent = extents_[done++];
        for (std::size_t pass = 0; pass < passes; ++pass) extent.counts[pass] = counts_along(pass, size, a, i);
        extent.boxes = {row(0, 1, a, i).boxes.items,
                        spans_[0].blocks(a, std::int64_t{extents[a][i]} * size.kernel.warpgroups)};
      }
    }
    const auto of = [this](int axis, std::size_t place) -> const Extent& {
      return extents_[first_extent_[axis] + place];
    };
    const std::ptrdiff_t others = std::ssize(starts);
    float limit = std::numeric_limits<float>::infinity();
    const auto shorten = [&] {
      const auto last = starts.begin() + others + static_cast<std::ptrdiff_t>(most) - 1;
      std::ranges::nth_element(starts.begin() + others, last, starts.end(), {}, &Start::order);
      limit = last->least();
      starts.erase(last + 1, starts.end());
    };
    using CountsOfPasses = std::array<Counts, kMostPasses>;
    const auto add = [&](const Places& box, const PerAxis<int>& shape, const CountsOfPasses& counts) {
      std::array<CostModel::Visits, kMostPasses> visits;
      double least_of_all = 0;  // axes
      const double fewest_items =
          of(0, box[0]).boxes[0] * of(1, box[1]).boxes[0] * of(2, box[2]).boxes[0] / size.kernel.warpgroups;
      for (std::size_t pass = 0; pass < passes; ++pass) {
        const Counts& of_pass = counts[pass];
        visits[pass] = size.model.visits(pass, of_pass.unmasked, of_pass.axes, of_pass.rows);
        const CostModel::Bound bound = size.model.bound(pass, fewest_items, 1, visits[pass]);
        least_of_all += bound.fixed + bound.visit * of_pass.visited;
      }
      if (static_cast<float>(least_of_all) >= limit) return;
      const bool one_box = size.kernel.warpgroups == 1 || shape == members_;
      const std::uint8_t ways = one_box ? 1 : 3;
      for (std::uint8_t axis = 0; axis < ways; ++axis) {
        if (!one_box && shape[axis] == members_[axis]) continue;  // there should be work for all boxes of a block
        double items = 1;
        for (int a = 0; a < 3; ++a) items *= of(a, box[a]).boxes[static_cast<std::size_t>(a == axis)];
        double least = 0;
        for (std::size_t pass = 0; pass < passes; ++pass) {
          const double idling = size.model.idling_of_items(pass, items, counts[pass].longest, counts[pass].mean);
          const CostModel::Bound bound = size.model.bound(pass, items, idling, visits[pass]);
          least += bound.fixed + bound.visit * counts[pass].visited;
        }
        if (static_cast<float>(least) >= limit) continue;
        starts.push_back(start(static_cast<float>(least), box, axis, size_number));
        if (starts.size() - others == kMostOver * most) shorten();
      }
    };
    CountsOfPasses of_x, of_xy, of_xyz;
    const auto count = [&](const CountsOfPasses& before, int axis, std::size_t place, CountsOfPasses& counts) {
      for (std::size_t pass = 0; pass < passes; ++pass) {
        counts[pass] = before[pass] * of(axis, place).counts[pass];
      }
    };
    const Counts none = no_counts(size);
    std::array<std::uint8_t, kWarpgroupRows + 1> end_of_z{};  // how many extents along the last axis are at most that
    for (std::size_t z = 0; z < extents[2].size(); ++z) end_of_z[extents[2][z]] = 1;
    std::partial_sum(end_of_z.begin(), end_of_z.end(), end_of_z.begin());
    for (std::uint8_t x = 0; x < extents[0].size(); ++x) {
      count({none, none}, 0, x, of_x);
      for (std::uint8_t y = 0; y < extents[1].size(); ++y) {
        const int rows = extents[0][x] * extents[1][y];
        if (rows > kWarpgroupRows) break;
        count(of_x, 1, y, of_xy);
        const std::uint8_t end = end_of_z[kWarpgroupRows / rows];
        for (std::uint8_t z = end_of_z[(boxes_.least_volume - 1) / rows]; z < end; ++z) {
          count(of_xy, 2, z, of_xyz);
          add({x, y, z}, {extents[0][x], extents[1][y], extents[2][z]}, of_xyz);
        }
      }
    }
    if (starts.size() - others > most) shorten();
  }

  using FirstVisits = std::array<std::array<std::size_t, 3>, kMostPasses>;  ///< of the boxes of a start, by axis

  /// Adds the tilings of a start to those that are best.
  void add_tilings(const Start& start, Shortlist& best) {
    const Size& size = sizes_[start.size];
    double items = 1;
    for (int a = 0; a < 3; ++a) items *= row(0, size.side_by_side(a, start.axis), a, start.box[a]).boxes.items;
    std::array<float, kMostPasses> visit;
    FirstVisits begin;
    double fixed = 0;
    for (std::size_t pass = 0; pass < spans_.size(); ++pass) {
      const auto [visited, unmasked, axes, longest, mean, rows] = counts(pass, size, start.box);
      const double idling = std::max(size.model.least_idling(pass, items),
                                     kCertain * size.model.idling_of_items(pass, items, longest, mean));
      const auto bound = size.model.bound(pass, items, idling, size.model.visits(pass, unmasked, axes, rows));
      fixed += bound.fixed;
      visit[pass] = static_cast<float>(bound.visit);
      for (int a = 0; a < 3; ++a) {
        begin[pass][a] = visits(pass, size, size.side_by_side(a, start.axis), a, start.box[a]);
      }
    }
    std::array<std::array<const float*, 3>, kMostPasses> visits;
    for (std::size_t pass = 0; pass < spans_.size(); ++pass) {
      for (int a = 0; a < 3; ++a) visits[pass][a] = &visits_[begin[pass][a]];
    }
    const auto of = [&](std::size_t pass, const Places& tile) {
      return visit[pass] * visits[pass][0][tile[0]] * visits[pass][1][tile[1]] * visits[pass][2][tile[2]];
    };
    const bool once = spans_.size() == 1;
    const std::span<const Places> tiles = tiles_.of(size.first_tile, size.end_of_tiles);
    for (auto tile = tiles.begin();; ++tile) {
      const auto limit = static_cast<float>(worth_estimating(best) * (1 + kRounding) - fixed);
      if (once) {
        while (tile != tiles.end() && of(0, *tile) >= limit) ++tile;
      } else {
        while (tile != tiles.end() && of(0, *tile) + of(1, *tile) >= limit) ++tile;
      }
      if (tile == tiles.end()) break;
      add_tiling(start, *tile, begin, best);
    }
  }

  /// What bounds are to be below. Few tilings take no more than their bound: where a plan is waited for, and a number
  /// of them is estimated, a bound that promises next to nothing is not followed.
  [[nodiscard]] double worth_estimating(const Shortlist& best) const {
    constexpr std::size_t kFirst = 24;  // among which are those that are equal but for what is preferred
    constexpr double kNextToNothing = 1.02;
    return hurries_ && estimated_ >= kFirst ? best.limit() / kNextToNothing : best.limit();
  }

  void add_tiling(const Start& start, const Places& tile, const FirstVisits& begin, Shortlist& best) {
    ++estimated_;
    const Size& size = sizes_[start.size];
    const Shape shape = tiles_.shape(tile);
    const CostModel::Tile costs_of_tile = size.model.tile(shape);
    double seconds = 0;
    for (std::size_t pass = 0; pass < spans_.size(); ++pass) {
      Work work;
      for (int a = 0; a < 3; ++a) {
        const Spans::Boxes& boxes = row(pass, size.side_by_side(a, start.axis), a, start.box[a]).boxes;
        work *= this->work(pass, boxes, shape[a], begin[pass][a] + tile[a]);
      }
      const double idling = size.model.idling_of_items(pass, work.items, work.longest, work.loaded / work.items);
      seconds += size.model.seconds(pass, work, costs_of_tile, idling, false);
    }
    const Shape box = shape_of(boxes_.extents, start.box);
    seconds *= 1 - kLongerRuns * static_cast<double>(shape[2]);
    if (forward_) seconds *= 1 + kLongerBoxes * static_cast<double>(std::ranges::max(box));
    if (seconds >= best.limit()) return;
    Tiling tiling{.query_tile = box,
                  .key_tile = shape,
                  .block = {1, 1, 1},
                  .rows = kWarpgroupRows,
                  .columns = size.kernel.columns};
    tiling.block[start.axis] = size.kernel.warpgroups;
    best.add({seconds, tiling});
  }

  PerAxis<int> members_;
  bool forward_ = true;
  bool hurries_ = false;
  std::size_t estimated_ = 0;
  Boxes boxes_;
  Tiles tiles_;
  std::vector<Size> sizes_;
  std::vector<Spans> spans_;             // by pass
  PerAxis<std::size_t> first_extent_{};  // in the tables below; axes that are alike share theirs
  std::size_t all_extents_ = 0;
  std::vector<Row> rows_;                    // by pass, boxes side by side, axis and extent
  std::vector<Extent> extents_;              // of the size at hand, by axis
  std::vector<std::uint32_t> work_numbers_;  // of each visit, from 1; 0: not counted yet
  std::vector<Work> works_;
  std::vector<float> visits_;  // one of nothing, and then those of rows
};

}  // namespace

std::vector<Estimate> best_tilings(const Problem& grid, Method method, std::size_t count) {
  return Search(grid, method).best(count);
}

}  // namespace vicinal::cuda::sm90
