#include "cuda/fused_sm90/dealing.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kMostBlocks = 4;  // of a multiprocessor
constexpr bool has_room(const KernelClass& size) { return size.blocks <= kMostBlocks; }
static_assert(std::ranges::all_of(kForwardClasses, has_room) && std::ranges::all_of(kForwardPairsClasses, has_room) &&
              std::ranges::all_of(kBackwardClasses, has_room) && std::ranges::all_of(kOnePassClasses, has_room));
/// So much longer turns have to take for the device to deal; items that differ by less are taken to be alike.
constexpr double kClearly = 1.05;

/// Column tiles of the row tiles along an axis, of one dilation group after another, in the order of items.
std::vector<int> column_tiles(const TiledGrid& grid, RowKind rows, int axis_number) {
  const TiledAxis& axis = grid.axes[axis_number];
  std::vector<int> counts;
  const int groups = axis.groups;
  const int tiles = axis.tiles;
  counts.reserve(static_cast<std::size_t>(groups) * static_cast<std::size_t>(tiles));
  for (int group = 0; group < axis.groups; ++group) {
    const bool as_before = group > 0 && axis.members(group) == axis.members(group - 1);
    for (int i = 0; i < axis.tiles; ++i) {
      const int origin = axis.first_origin + i * axis.origin_step;
      counts.push_back(as_before ? counts[counts.size() - axis.tiles]
                       : rows == RowKind::queries
                           ? axis_share<RowKind::queries>(grid, axis_number, group, origin, 0).column_tiles
                           : axis_share<RowKind::keys>(grid, axis_number, group, origin, 0).column_tiles);
    }
  }
  return counts;
}

using AxisCounts = std::array<std::vector<int>, 3>;

/// Seconds of the items of one head, in their order.
std::vector<float> item_seconds(const TiledGrid& grid, const AxisCounts& counts, const BlockCosts& costs) {
  const int extra_tiles = (grid.extra_kv + grid.columns.volume - 1) / grid.columns.volume;
  std::vector<float> seconds;
  seconds.reserve(counts[0].size() * counts[1].size() * counts[2].size());
  int group[3];
  const auto loop = [&](int number) {
    const int a = grid.loop_axis(number);
    const int count = grid.axes[a].tiles;
    const auto tiles = static_cast<std::size_t>(count);
    return std::span(counts[a]).subspan(static_cast<std::size_t>(group[a]) * tiles, tiles);
  };
  for (group[0] = 0; group[0] < grid.axes[0].groups; ++group[0]) {
    for (group[1] = 0; group[1] < grid.axes[1].groups; ++group[1]) {
      for (group[2] = 0; group[2] < grid.axes[2].groups; ++group[2]) {
        for (const int outer : loop(0)) {
          for (const int middle : loop(1)) {
            for (const int inner : loop(2)) {
              const int tiles = outer * middle * inner;  // none where a smaller dilation group has no such rows
              const double all = (tiles + extra_tiles) * costs.tile + costs.item;
              seconds.push_back(tiles == 0 ? 0 : static_cast<float>(all));
            }
          }
        }
      }
    }
  }
  return seconds;
}

/// When the last of `places` blocks ends that take items in turns. `of_head` are the seconds of a head's items.
double end_of_turns(std::span<const float> of_head, int items, int places) {
  std::array<float, std::size_t{kMostBlocks} * kMultiprocessors> busy{};
  std::size_t next = 0;
  int first_block = 0;  // of those of a turn: they move on by one place (`Producer::run`)
  for (int first = 0; first < items; first += places) {
    int block = first_block;
    for (int item = first; item < std::min(first + places, items); ++item) {
      busy[block] += of_head[next];
      next = next + 1 == of_head.size() ? 0 : next + 1;
      block = block + 1 == places ? 0 : block + 1;
    }
    first_block = (first_block == 0 ? places : first_block) - 1;
  }
  return std::ranges::max(busy);
}

/// The same where an item begins when any place is free. Time goes by in ticks, for which places need not be sorted.
double end_of_blocks(std::span<const float> of_head, int items, int places, double latest_end) {
  constexpr int kTicks = 1024;
  std::array<std::uint16_t, std::size_t{kMostUnevenItems}> ticks;  // of a head's items; rounding evens out among them
  const auto ticks_per_second = static_cast<float>(kTicks / latest_end);
  float left_over = 0;
  for (std::size_t i = 0; i < of_head.size(); ++i) {
    left_over += of_head[i] * ticks_per_second;
    ticks[i] = static_cast<std::uint16_t>(left_over);
    left_over -= static_cast<float>(ticks[i]);
  }
  std::array<std::uint16_t, kTicks + 2> free{};  // places, by when they are
  free[0] = static_cast<std::uint16_t>(places);
  int now = 0;
  int end = 0;
  std::size_t next = 0;
  for (int item = 0; item < items; ++item) {
    while (free[now] == 0) ++now;
    --free[now];
    const int until = std::min(now + ticks[next], kTicks + 1);
    next = next + 1 == of_head.size() ? 0 : next + 1;
    ++free[until];
    end = std::max(end, until);
  }
  return static_cast<double>(end) / ticks_per_second;
}

}  // namespace

Deal best_deal(const TiledGrid& grid, RowKind rows, int blocks, const BlockCosts& costs) {
  assert(grid.items > 0 && "the planner refuses more items than an int counts");
  const int places = blocks * kMultiprocessors;
  const double of_equal_items = unevenness_of_turns(grid.items, places);
  if (grid.items > kMostUnevenItems) return {Dealing::in_turns, of_equal_items};

  AxisCounts counts;
  double most_over_mean = 1;  // tiles of an item
  double all_over_some = 1;   // items over those that have rows: smaller dilation groups may have none for the last
  for (int a = 0; a < 3; ++a) {
    counts[a] = column_tiles(grid, rows, a);
    const auto& of_axis = counts[a];
    const auto all = static_cast<double>(of_axis.size());
    most_over_mean *= std::ranges::max(of_axis) * all / std::accumulate(of_axis.begin(), of_axis.end(), 0);
    all_over_some *= all / (all - static_cast<double>(std::ranges::count(of_axis, 0)));
  }
  if (most_over_mean <= kClearly) return {Dealing::in_turns, of_equal_items * all_over_some};

  BlockCosts of_item = costs;
  if (rows == RowKind::keys) of_item.tile *= grid.heads_per_kv;  // tiles pass by once for each query head
  std::vector<float> of_head = item_seconds(grid, counts, of_item);
  const int heads = grid.heads * grid.batch;
  const double even = heads * std::accumulate(of_head.begin(), of_head.end(), 0.0) / places;
  const double in_turns = end_of_turns(of_head, grid.items, places);
  if (grid.items <= places || in_turns <= kClearly * even) return {Dealing::in_turns, in_turns / even};

  for (float& seconds : of_head) seconds += static_cast<float>(kBlockStartSeconds);
  const double latest_end = even + kBlockStartSeconds * grid.items / places + std::ranges::max(of_head);
  const double last = end_of_blocks(of_head, grid.items, places, latest_end);
  const double by_the_device = last - kBlockStartSeconds;  // blocks that take turns begin, too
  if (in_turns <= kClearly * by_the_device) return {Dealing::in_turns, in_turns / even};
  return {Dealing::by_the_device, by_the_device / even};
}

bool share_columns(TiledGrid& grid, const KernelClass& size, Dealing dealing, bool by_copy_engine) {
  if (may_share_columns(size) && by_copy_engine && dealing == Dealing::in_turns) grid.share_columns();
  return grid.sharers > 1;
}

}  // namespace vicinal::cuda::sm90
