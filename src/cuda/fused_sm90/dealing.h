#pragma once

// How the work items of a launch come to the blocks that do them, and how evenly. Host only.

#include <algorithm>
#include <cstdint>

#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/tiles.h"

namespace vicinal::cuda::sm90 {

/// Of the device that plans are made for.
inline constexpr int kMultiprocessors = 132;

/// Who deals.
enum class Dealing : std::uint8_t {
  in_turns,      ///< blocks, as many as the device holds, take items in a fixed order (`Producer::run`)
  by_the_device  ///< a block for each item: the next begins where one has ended
};

/// What keeps a block busy, in seconds.
struct BlockCosts {
  double tile;  ///< a column tile, for all warpgroups
  double item;  ///< what a work item takes besides
};

/// A dealing, and how uneven it is.
struct Deal {
  Dealing dealing;
  /// The time of the block that ends last over the time that all would take if items could be cut, and nothing be lost
  /// at the beginning of blocks.
  double unevenness;
};

/// With items that are all alike.
constexpr double unevenness_of_turns(double items, double places) {
  const auto turns = static_cast<std::int64_t>((items - 0.5) / places) + 1;  // items / places rounded up
  return static_cast<double>(turns) * places / items;
}

/// About what `best_deal` finds where the longest item takes `longest` times as long as the mean: in 9380 launches of
/// 400 random problems it is off by 8%, and exact where all items begin at once.
constexpr double unevenness_of_items(double items, double places, double longest) {
  constexpr double kAlike = 1.05;
  constexpr double kMeet = 1.2;      // long items in the block that ends last, of however many it takes
  constexpr double kAtTheEnd = 0.6;  // of an item: nobody else has work meanwhile
  const double of_longest = longest * places / items;
  if (items <= places) return of_longest;
  const double of_turns = unevenness_of_turns(items, places);
  if (longest <= kAlike) return of_turns;
  const double turns = of_turns * items / places;
  const double in_turns = of_turns * (1 + std::min(kMeet / turns, 1.0) * (longest - 1));
  return std::min(in_turns, std::max(of_longest, 1 + kAtTheEnd * of_longest));
}

/// Of more items than this, 24 for each multiprocessor, it is taken not to matter how much they differ.
inline constexpr int kMostUnevenItems = 24 * kMultiprocessors;

/// What a block takes to begin: barriers, tables of masks, and tiles that nobody has loaded ahead. An estimate.
inline constexpr double kBlockStartSeconds = 5e-6;

/// The faster dealing of the items of `grid` to `blocks` blocks of each multiprocessor. The device's costs the
/// beginning of a block for each item, so it is taken only where turns are clearly more uneven. Takes about 7 ns for
/// each item, where they are not alike.
Deal best_deal(const TiledGrid& grid, RowKind rows, int blocks, const BlockCosts& costs);

/// Has two blocks take the items of a forward pass together where that is faster and tiles allow it
/// (docs/decisions/0082). Whether they do.
bool share_columns(TiledGrid& grid, const KernelClass& size, Dealing dealing, bool by_copy_engine);

}  // namespace vicinal::cuda::sm90
