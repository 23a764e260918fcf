#pragma once

// How long the Hopper kernels take, as their planner sees it: what tiles of given sizes come to along each axis, and
// what that costs. A kernel makes one or two passes over the grid. In each, boxes of tokens of one kind, rows, stay
// with a warpgroup, and tiles of the other kind pass by.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/dealing.h"
#include "cuda/fused_sm90/spans.h"
#include "cuda/fused_sm90/tiles.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {

/// How an operation is computed: a row of the registry.
enum class Method : std::uint8_t { forward, forward_pairs, backward, backward_one_pass };

constexpr bool is_forward(Method method) { return method == Method::forward || method == Method::forward_pairs; }

/// Heads that are one to the kernel.
constexpr int joined_heads(Method method) { return method == Method::forward_pairs ? kPairedHeads : 1; }

/// The sizes that the kernels of a method are compiled for.
std::span<const KernelClass> classes_of(Method method);

/// The head dim of those that take a problem.
inline int class_dim_of(const Problem& grid, Method method) {
  return class_dim(classes_of(method), std::max(grid.dim, grid.dim_v));
}

/// The heads, and at least one batch entry, as work items have them.
Problem joined(Problem grid, Method method);

/// What is kept in each pass that they make, of which there are at most kMostPasses.
inline constexpr std::size_t kMostPasses = 2;
std::span<const RowKind> passes_of(Method method);

/// Of the backward kernels where rows are keys: S, dP, dV and dK, and dQ if there is no other pass, or, where registers
/// do not hold both gradients, S, dP and dK and then S and dV. Where rows are queries they are three: S, dP and dQ.
int products_over_keys(Method method, const KernelClass& size);

/// Whether a problem may have so few items in some pass that it matters how much they differ.
bool has_few_items(const Problem& grid, Method method);

/// How a launch over `grid`, which has that kind of rows, is best dealt out.
Deal deal_of(const TiledGrid& grid, Method method, const KernelClass& size, RowKind rows);

/// Who deals a launch over `items`, those of a problem and its tiling. What `deal_of` says of it takes microseconds, so
/// it is remembered for a thread's last launches.
Dealing dealing_of(const Problem& grid, const Tiling& tiling, const TiledGrid& items, Method method,
                   const KernelClass& size, RowKind rows);

/// Seconds of one class of a kernel for a problem.
class CostModel {
 public:
  CostModel(const Problem& grid, Method method, const KernelClass& size);

  /// What a tile of that shape has to do with costs.
  struct Tile {
    double volume;
    double extra;   ///< such tiles hold the extra tokens, where rows are queries
    double copies;  ///< boxes by which the copy engine fills it, where those take time: where it is walked
    bool full;      ///< else columns are left over, and masked
    double longer;  ///< the part that threads take more to copy it since its rows are not aligned to words
  };
  [[nodiscard]] Tile tile(const PerAxis<std::int64_t>& shape) const;

  /// What a pass takes over what it would take if no block were idle, where blocks are so uneven.
  [[nodiscard]] double idling(double unevenness) const { return 1 + idle_loss_ * (unevenness - 1); }
  /// Where the items of the pass of that number are alike.
  [[nodiscard]] double idling_of_turns(std::size_t pass, double items) const {
    return idling(unevenness_of_turns(passes_[pass].item_heads * items, places_));
  }
  /// However they differ.
  [[nodiscard]] double least_idling(std::size_t pass, double items) const {
    const double all_items = passes_[pass].item_heads * items;
    if (all_items > kMostUnevenItems) return idling(unevenness_of_turns(all_items, places_));
    return idling(std::max(1.0, places_ / all_items));
  }
  /// Where they may not be: the longest needs `longest` tiles, and the mean of all `mean`.
  [[nodiscard]] double idling_of_items(std::size_t pass, double items, double longest, double mean) const {
    const PassCosts& costs = passes_[pass];
    const double all_items = costs.item_heads * items;
    if (all_items > kMostUnevenItems) return idling(unevenness_of_turns(all_items, places_));
    const double over_mean = (longest + costs.item_tiles) / (mean + costs.item_tiles);
    return idling(unevenness_of_items(all_items, places_, over_mean));
  }
  /// Of the pass of that number, with `idling` for the items of the work. `shared`: two blocks share column tiles.
  [[nodiscard]] double seconds(std::size_t pass, const Work& work, const Tile& tile, double idling, bool shared) const;
  /// What pairs take at least where no block is idle: `spared` by those that are not masked, and `visit` each.
  struct Visits {
    double spared, visit;
  };
  /// Where at most `unmasked` pairs are not masked, of boxes of that many rows, and others along `axes` axes at least.
  [[nodiscard]] Visits visits(std::size_t pass, double unmasked, double axes, double rows) const {
    const PassCosts& costs = passes_[pass];
    return {unmasked * (costs.mask - gap(costs, rows)),
            costs.tile + costs.mask + axes * costs.axis - empty_rows(rows) * costs.empty};
  }
  /// What a pass takes at least: `fixed`, and `visit` for each (warpgroup, tile) pair.
  struct Bound {
    double fixed, visit;
  };
  [[nodiscard]] Bound bound(std::size_t pass, double items, double idling, const Visits& visits) const {
    const double fixed = (items * passes_[pass].item - visits.spared) * idling;
    const double visit = visits.visit * idling;
    if (spill_seconds_ == 0) return {fixed + launch_seconds_, visit};
    // (a^4 + b^4)^(1/4) is at least (a + b) / 2^(3/4), and not much more where a and b are about equal. Tiles are taken
    // to be full.
    constexpr double kShare = 0.5946;
    const double spilled = static_cast<double>(columns_) / warpgroups_ * spill_seconds_;
    return {kShare * fixed + launch_seconds_, kShare * (visit + spilled)};
  }
  /// Seconds of a visit are a sum of these shares, for each visited tile and for each loaded one.
  struct Shares {
    double visited, loaded;
  };
  [[nodiscard]] Shares shares(std::size_t pass) const;
  /// Of all passes, and of what is done beside them.
  [[nodiscard]] double seconds(std::span<const Work> works, const PerAxis<std::int64_t>& tile_shape,
                               std::span<const double> idling, bool shared) const;

 private:
  /// Seconds of a multiprocessor that is never idle, for all heads (joined ones are one) and batch entries.
  struct PassCosts {
    RowKind rows;
    double item_heads;  ///< heads and batch entries that have items of their own
    double tile, mask, axis, gap, item, lone, between, empty, shared;
    double item_tiles;  ///< as many take as long as what an item adds
  };
  /// The share of rows that hold no token.
  [[nodiscard]] static double empty_rows(double rows) { return 1 - rows / kWarpgroupRows; }
  /// What a tile takes that is masked for rows without a token alone.
  [[nodiscard]] static double gap(const PassCosts& costs, double rows) {
    return static_cast<double>(rows < kWarpgroupRows) * costs.gap;
  }

  const Problem& grid_;
  std::int64_t columns_, extra_kv_;
  double places_, warpgroups_;
  double row_tensors_;     ///< that each box keeps
  bool aligned_to_words_;  ///< or of no importance
  double idle_loss_;       ///< how much of the time is lost in which the last blocks work
  double launch_seconds_;
  double copy_seconds_;  ///< of one copy for each tensor and chunk, for all heads and batch entries
  /// Where threads copy: of a tile of each tensor, of a work item, and of what a visit keeps them from; likewise.
  struct ThreadCosts {
    double tile, item, visit;
  };
  ThreadCosts by_threads_;
  double spill_seconds_;  ///< of a token that is added to where the sums of a head do not fit into the cache
  double aside_seconds_;  ///< what rows bring and take; delta; gradients of extra tokens; clearing and rounding dQ
  double byte_seconds_;   ///< of a token that is loaded, and added to, for all heads and batch entries
  std::array<PassCosts, kMostPasses> passes_{};
};

}  // namespace vicinal::cuda::sm90
