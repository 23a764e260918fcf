#include "cuda/fused_sm90/cost_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>

#include "core/tiling.h"
#include "cuda/fused_sm90/copies.h"

namespace vicinal::cuda::sm90 {
namespace {

/// Microseconds of a multiprocessor that is never idle.
struct ClassCosts {
  double tile;  ///< a tile of one warpgroup
  double mask;  ///< what masking along one axis adds to it
  double item;  ///< what a work item adds
};

// From up to 129 tilings of each of 108 problems on one H100, forward (docs/decisions/0088-hopper-first-scores.md) and
// backward (0071-hopper-cost-model.md).
constexpr std::array<ClassCosts, kForwardClasses.size()> kForwardCosts{{
    {0.246, 0.095, 0.422},  // 32x1
    {0.419, 0.190, 1.723},  // 32x2
    {0.299, 0.115, 0.445},  // 64x1
    {0.530, 0.116, 1.278},  // 64x2
    {0.656, 0.140, 1.683},  // 96x2
    {0.735, 0.108, 2.540},  // 128x2
    {0.810, 0.097, 3.017},  // 192x2
    {0.818, 0.051, 3.207},  // 256x2
}};

// Of two heads.
constexpr std::array<ClassCosts, kForwardPairsClasses.size()> kForwardPairsCosts{{
    {0.487, 0.126, 0.725},  // 32x1
    {0.803, 0.185, 2.248},  // 32x2
}};

// Of both passes together.
constexpr std::array<ClassCosts, kBackwardClasses.size()> kBackwardCosts{{
    {0.958, 0.241, 1.795},  // 32x1
    {1.461, 0.257, 3.027},  // 64x1
    {1.194, 0.176, 2.468},  // 64x2
    {1.592, 0.307, 2.748},  // 96x2
    {1.788, 0.272, 3.121},  // 128x2
    {2.907, 0.286, 3.531},  // 192x2
    {2.339, 0.205, 3.489},  // 256x2
}};

constexpr std::array<ClassCosts, kOnePassClasses.size()> kOnePassCosts{{
    {1.507, 0.278, 2.975},  // 64x2
    {1.236, 0.252, 2.802},  // 128x2
}};

/// The part of forward masks that is for each axis along which a tile is masked. Backward it made choices worse.
constexpr double kAxisMask = 0.27;
/// Masks of tiles that are masked since rows of the box hold no token, and for nothing else, as a share of `mask`: in
/// one backward pass, where rows are summed over.
constexpr double kGapMask = 0.5;
/// What a tile that one warpgroup of two needs takes more, as a share of `tile`: no other keeps the tensor cores busy.
constexpr double kLoneForward = 0.49;
constexpr double kLoneBackward = 0.45;
/// Backward with two stages: less, but more for those before and behind tiles that both need, since the stage of such a
/// tile is free only when both are done with it.
constexpr double kLoneOfTwo = 0.27;
constexpr double kLoneBetween = 0.315;
/// Masks of tiles that leave columns over take this much longer: one more word to look up. It hardly does more than to
/// decide between tilings that are equal otherwise.
constexpr double kShortMask = 1.03;
/// What a tile takes less where no row of the box holds a token, forward from head dim 96 on, as a share of `tile`:
/// nothing but zeros is multiplied, perhaps for less power.
constexpr double kEmptyRows = 0.27;
constexpr int kLeastDimOfPower = 96;
/// What a tile takes less, from that head dim on, that two blocks share (docs/decisions/0082).
constexpr double kSharedTile = 0.025;
/// The same in two passes backward with two stages.
constexpr double kEmptyRowsBackward = 0.1;
/// How much of the time in which the last blocks work is lost: the others leave them power and memory. Forward, where
/// blocks of one warpgroup share a multiprocessor, they leave them tensor cores, too.
constexpr double kIdleLoss = 0.9;
constexpr double kSharedIdleLoss = 0.4;
/// As an event before and one behind it see it: filling the first stages and writing the last rows too, by the number
/// of warpgroups. Forward alone; of each pass of several kernels, which hide some of it from each other.
constexpr std::array kForwardLaunchSeconds{15.8e-6, 16.4e-6};
constexpr std::array kBackwardLaunchSeconds{5.3e-6, 10.2e-6};
constexpr double kSmallLaunchSeconds = 4e-6;  // of kernels that do little
/// Microseconds that the threads of a multiprocessor take to copy a tile of each tensor, by the head dim of a row, in
/// blocks of one warpgroup, whose one warp that copies is slower than all else; fitted forward.
constexpr double kCopiesOf32 = 0.95;
constexpr double kCopiesOf64 = 1.22;
/// Four warps are slower than all else forward, one head at a time, where windows are small: of a chunk of 128 tokens,
/// what a work item adds, and what a visit keeps them from, as a share of `tile`. Of pairs of heads and backward they
/// mostly keep up, so that tiles are best chosen as for the copy engine.
constexpr double kCopiesOfChunk = 0.77;
constexpr double kCopiesOfItem = 5.1;
constexpr double kKeptFromCopies = 0.6;
/// Where words are shifted.
constexpr double kShifted = 1.35;
/// How much longer a tile of vectors that begin between words takes, in blocks of two warpgroups, the more the longer
/// it is along the fastest axis, where tokens that follow each other are aligned differently: all are copied as the
/// worst.
constexpr double kAlongFastest = 0.06;
/// Of a producer, for each box that it asks the copy engine for; forward by the number of warpgroups.
constexpr std::array kForwardCopySeconds{16e-9, 18e-9};
constexpr double kBackwardCopySeconds = 18e-9;
constexpr double kForwardBytesPerSecond = 6e12;  // from the second-level cache, as either was fitted
constexpr double kBackwardBytesPerSecond = 5e12;
constexpr double kAddedBytesPerSecond = 2.5e12;  // to floats there
/// The same where the sums of a head do not fit, so that they come from memory and go there again.
constexpr double kSpilledBytesPerSecond = 1.31e12;
constexpr double kCacheBytes = 50e6;
constexpr double kMemoryBytesPerSecond = 2.5e12;
/// Of what the passes backward read and write at least: the part of it that is not hidden behind products.
constexpr double kRowBytesPerSecond = 7.5e12;
/// Of what delta takes in a kernel of its own: what it takes in the pass over queries (docs/decisions/0086).
constexpr double kDeltaWithRows = 0.7;
constexpr double kExtraMultiplyAddsPerSecond = 1e13;  // gradients of extra tokens, without matrix products: an estimate

const ClassCosts& class_costs(Method method, const KernelClass& size) {
  const std::size_t index = class_index(classes_of(method), size.dim, size.warpgroups);
  if (method == Method::forward) return kForwardCosts[index];
  if (method == Method::forward_pairs) return kForwardPairsCosts[index];
  if (method == Method::backward) return kBackwardCosts[index];
  return kOnePassCosts[index];
}

/// Microseconds that threads take to copy a tile of each tensor, where they do and that matters.
double tile_by_threads(const Problem& grid, Method method, const KernelClass& size) {
  const Copies copies = copies_of(grid);
  if (copies.by_copy_engine || (size.warpgroups > 1 && method != Method::forward)) return 0;
  double aligned = joined_heads(method) * size.dim <= 32 ? kCopiesOf32 : kCopiesOf64;
  if (size.warpgroups > 1) {
    const auto tokens = static_cast<double>(ceil_div(size.dim, kChunk) * size.columns);
    aligned = kCopiesOfChunk * tokens / 128;
  }
  return copies.alignment < 4 ? aligned * kShifted : aligned;
}

/// The part of each pass in masks and items.
double share_of_items(Method method) { return 1.0 / static_cast<double>(passes_of(method).size()); }

/// The part of a pass in all products.
double share_of(Method method, const KernelClass& size, RowKind rows) {
  if (method != Method::backward) return 1;
  constexpr int kOverQueries = 3;
  const int over_keys = products_over_keys(method, size);
  return static_cast<double>(rows == RowKind::queries ? kOverQueries : over_keys) / (kOverQueries + over_keys);
}

}  // namespace

std::span<const KernelClass> classes_of(Method method) {
  if (method == Method::forward) return kForwardClasses;
  if (method == Method::forward_pairs) return kForwardPairsClasses;
  if (method == Method::backward) return kBackwardClasses;
  return kOnePassClasses;
}

std::span<const RowKind> passes_of(Method method) {
  static constexpr std::array kPasses{RowKind::queries, RowKind::keys};
  if (is_forward(method)) return std::span(kPasses).first(1);
  if (method == Method::backward) return kPasses;
  return std::span(kPasses).last(1);
}

int products_over_keys(Method method, const KernelClass& size) {
  return method == Method::backward && size.dim <= 128 ? 4 : 5;
}

Problem joined(Problem grid, Method method) {
  grid.batch = std::max<std::int64_t>(grid.batch, 1);
  grid.heads /= joined_heads(method);
  grid.heads_kv /= joined_heads(method);
  return grid;
}

bool has_few_items(const Problem& grid, Method method) {
  const Problem items = joined(grid, method);
  const int dim = class_dim_of(grid, method);
  return std::ranges::any_of(classes_of(method), [&](const KernelClass& size) {
    const std::int64_t rows = std::int64_t{kMostUnevenItems} * size.warpgroups * kWarpgroupRows;
    return size.dim == dim && std::ranges::any_of(passes_of(method), [&](RowKind kept) {
             const std::int64_t heads = kept == RowKind::queries ? items.heads : items.heads_kv;
             return items.batch * heads * items.tokens() <= rows;
           });
  });
}

Deal deal_of(const TiledGrid& grid, Method method, const KernelClass& size, RowKind rows) {
  const ClassCosts& costs = class_costs(method, size);
  const double share = share_of(method, size, rows);
  const double seconds = 1e-6 * size.blocks;  // of a block, for a microsecond of its multiprocessor
  const BlockCosts of_block{.tile = share * costs.tile * size.warpgroups * seconds,
                            .item = share_of_items(method) * costs.item * seconds};
  return best_deal(grid, rows, size.blocks, of_block);
}

Dealing dealing_of(const Problem& grid, const Tiling& tiling, const TiledGrid& items, Method method,
                   const KernelClass& size, RowKind rows) {
  struct Launch {
    Problem grid;
    Tiling tiling;
    Method method;
    RowKind rows;

    bool operator==(const Launch&) const = default;
  };
  struct Memory {
    Launch launch;
    Dealing dealing;
  };
  // Neither memory from the heap nor anything to be done when a thread ends.
  constexpr std::size_t kMost = 16;
  static_assert(std::is_trivially_destructible_v<Memory>);
  thread_local constinit std::array<Memory, kMost> memories{};
  thread_local constinit std::size_t count = 0;
  thread_local constinit std::size_t oldest = 0;

  const Launch launch{grid, tiling, method, rows};
  const auto remembered = std::span(memories).first(count);
  const auto known = std::ranges::find(remembered, launch, &Memory::launch);
  if (known != remembered.end()) return known->dealing;
  const Dealing dealing = deal_of(items, method, size, rows).dealing;
  memories[oldest] = {launch, dealing};
  oldest = (oldest + 1) % kMost;
  count = std::min(count + 1, kMost);
  return dealing;
}

CostModel::CostModel(const Problem& grid, Method method, const KernelClass& size)
    : grid_(grid),
      columns_(size.columns),
      extra_kv_(grid.extra_kv),
      places_(kMultiprocessors * size.blocks),
      warpgroups_(size.warpgroups),
      row_tensors_(is_forward(method) ? 1 : 2),
      aligned_to_words_(!is_forward(method) || size.warpgroups == 1 || copies_of(grid).alignment >= 4),
      idle_loss_(is_forward(method) && size.warpgroups == 1 ? kSharedIdleLoss : kIdleLoss),
      launch_seconds_((is_forward(method) ? kForwardLaunchSeconds : kBackwardLaunchSeconds)[size.warpgroups - 1]),
      copy_seconds_(0),
      by_threads_{},
      spill_seconds_(0),
      aside_seconds_(0) {
  const ClassCosts& costs = class_costs(method, size);
  const std::span<const RowKind> passes = passes_of(method);
  const double item_share = share_of_items(method);
  const auto batch = static_cast<double>(std::max<std::int64_t>(grid.batch, 1));  // none is planned as one
  const int joined = joined_heads(method);
  const double heads = batch * static_cast<double>(grid.heads) / joined;
  const double heads_kv = batch * static_cast<double>(grid.heads_kv) / joined;
  constexpr double kSeconds = 1e-6 / kMultiprocessors;
  const auto dims = static_cast<double>(joined * (grid.dim + grid.dim_v));
  const auto element = static_cast<double>(size_of(grid.dtype));
  byte_seconds_ = heads * dims * element / (is_forward(method) ? kForwardBytesPerSecond : kBackwardBytesPerSecond);
  by_threads_.tile = heads * tile_by_threads(grid, method, size) * kSeconds;
  if (by_threads_.tile > 0 && size.warpgroups > 1) {
    by_threads_.item = heads * kCopiesOfItem * kSeconds;
    by_threads_.visit = heads * kKeptFromCopies * costs.tile * kSeconds;
  }
  if (std::ranges::max(grid.dilation) > 1 && by_threads_.tile == 0) {  // else no axis is walked
    const double copy = is_forward(method) ? kForwardCopySeconds[size.warpgroups - 1] : kBackwardCopySeconds;
    const std::int64_t chunks = ceil_div(joined * grid.dim, kChunk) + ceil_div(joined * grid.dim_v, kChunk);
    copy_seconds_ = heads * static_cast<double>(chunks) * copy / kMultiprocessors;
  }
  const auto tokens = static_cast<double>(grid.tokens());
  if (!is_forward(method)) {
    // Q, K, V and dO in each pass; dQ in the first of two; dK and dV in the last.
    const double row_tensors = method == Method::backward ? 11 : 6;
    aside_seconds_ += row_tensors / 2 * tokens * heads * dims * element / kRowBytesPerSecond;
    // Delta, of the output and its gradient.
    const bool with_rows =
        method == Method::backward && may_make_delta(size) && copy_seconds_ == 0 && copies_of(grid).by_copy_engine;
    aside_seconds_ += (with_rows ? kDeltaWithRows : 1) * 2 * tokens * heads * static_cast<double>(grid.dim_v) *
                      element / kMemoryBytesPerSecond;
  }
  if (method == Method::backward) {
    const bool keys_twice = products_over_keys(method, size) == 5;  // a kernel each for dK and dV
    aside_seconds_ += keys_twice ? launch_seconds_ : 0;
    aside_seconds_ += 2 * heads * tokens * static_cast<double>(grid.extra_kv) * dims / kExtraMultiplyAddsPerSecond;
  }
  if (method == Method::backward_one_pass) {
    constexpr auto kSum = static_cast<double>(sizeof(float));
    const auto dim = static_cast<double>(grid.dim);
    byte_seconds_ += heads * dim * kSum / kAddedBytesPerSecond;
    if (tokens * dim * kSum > kCacheBytes) spill_seconds_ = heads * dim * kSum / kSpilledBytesPerSecond;
    aside_seconds_ += tokens * heads * dim * (2 * kSum + element) / kMemoryBytesPerSecond + 2 * kSmallLaunchSeconds;
  }
  const bool two_stages_backward = !is_forward(method) && size.warpgroups == 2 && size.stages == 2;
  const bool sparse_backward = two_stages_backward && method == Method::backward;
  const bool power_binds = method == Method::forward && size.dim >= kLeastDimOfPower;
  const double lone = is_forward(method) ? kLoneForward : (two_stages_backward ? kLoneOfTwo : kLoneBackward);
  PassCosts* next = passes_.data();
  for (const RowKind rows : passes) {
    // The query heads that share a head of keys make one item where keys are kept.
    const double item_heads = rows == RowKind::queries ? heads : heads_kv;
    const double tile = share_of(method, size, rows) * costs.tile * heads * kSeconds;
    const double mask = item_share * costs.mask * heads * kSeconds;
    const double axis_part = is_forward(method) ? kAxisMask : 0;
    const double item = item_share * costs.item * item_heads * kSeconds;
    *next++ = {.rows = rows,
               .item_heads = item_heads,
               .tile = tile,
               .mask = mask * (1 - axis_part),
               .axis = mask * axis_part,
               .gap = method == Method::backward_one_pass ? mask * kGapMask : 0,
               .item = item,
               .lone = tile * lone,
               .between = two_stages_backward ? tile * kLoneBetween : 0,
               .empty = tile * (power_binds ? kEmptyRows : (sparse_backward ? kEmptyRowsBackward : 0)),
               .shared = power_binds ? tile * kSharedTile : 0,
               .item_tiles = item / (tile * warpgroups_)};
  }
}

CostModel::Tile CostModel::tile(const PerAxis<std::int64_t>& shape) const {
  const std::int64_t volume = shape[0] * shape[1] * shape[2];
  const int copies = copy_seconds_ > 0 ? TileShape(shape, grid_.dilation).copies : 1;
  return {static_cast<double>(volume), static_cast<double>(ceil_div(extra_kv_, volume)),
          copies > 1 ? static_cast<double>(copies) : 0, volume == columns_,
          aligned_to_words_ ? 0 : kAlongFastest * (1 - 1 / static_cast<double>(shape[2]))};
}

double CostModel::seconds(std::size_t pass, const Work& work, const Tile& tile, double idling, bool shared) const {
  const PassCosts& costs = passes_[pass];
  const double extra = costs.rows == RowKind::queries ? work.items * tile.extra : 0;
  const double visited = work.visited + extra * warpgroups_;
  const double masked = tile.full ? visited - work.unmasked : visited * kShortMask;
  const double unmasked = tile.full ? work.unmasked : 0;
  const double masks = masked * costs.mask + work.visited * work.axes * costs.axis + unmasked * gap(costs, work.rows);
  const double bytes = (work.loaded + extra) * tile.volume * byte_seconds_;
  // `copy_seconds_` are of two tensors.
  const double row_copies = work.copies > 1 ? work.items * warpgroups_ * work.copies * row_tensors_ / 2 : 0;
  const double copies = (work.loaded * tile.copies + row_copies) * copy_seconds_;
  const double by_threads = (work.loaded + extra) * (1 + tile.longer) * by_threads_.tile +
                            work.items * by_threads_.item + visited * by_threads_.visit;
  const double lone = std::max(work.loaded * warpgroups_ - work.visited, 0.0);
  const double both = std::max(work.visited - work.loaded, 0.0);
  const double lonely = lone * costs.lone + std::min(lone, 2 * both) * costs.between;
  const double empty = empty_rows(work.rows) * visited * costs.empty;
  const double tiles = visited * (shared ? costs.tile - costs.shared : costs.tile);
  const double busy = tiles + masks + lonely + work.items * costs.item - empty;
  // What threads wait for, memory, is theirs where other blocks are idle.
  double seconds = std::max({std::max(busy, copies) * idling, by_threads, bytes});
  if (spill_seconds_ > 0) {
    // Memory that is busy for about as long hinders the rest: the fourth root of the sum of fourth powers.
    const double spilled = work.loaded * tile.volume * spill_seconds_;
    const double square = seconds * seconds;
    const double of_spilled = spilled * spilled;
    seconds = std::sqrt(std::sqrt(square * square + of_spilled * of_spilled));
  }
  return seconds + launch_seconds_;
}

CostModel::Shares CostModel::shares(std::size_t pass) const {
  const PassCosts& costs = passes_[pass];
  const double lone = costs.lone / (costs.tile + costs.mask + 3 * costs.axis);  // at least of any `Bound::visit`
  return {1 - lone, lone * warpgroups_};
}

double CostModel::seconds(std::span<const Work> works, const PerAxis<std::int64_t>& tile_shape,
                          std::span<const double> idling, bool shared) const {
  double sum = aside_seconds_;
  for (std::size_t pass = 0; pass < works.size(); ++pass) {
    sum += seconds(pass, works[pass], tile(tile_shape), idling[pass], shared);
  }
  return sum;
}

}  // namespace vicinal::cuda::sm90
