#include "cuda/fused_sm90/cost_model.h"

#include <algorithm>
#include <array>

#include "core/tiling.h"

namespace vicinal::cuda::sm90 {
namespace {

/// Microseconds of a multiprocessor that is never idle.
struct ClassCosts {
  double tile;  ///< a tile of one warpgroup
  double mask;  ///< what masking adds to it
  double item;  ///< what a work item adds
};

// From 129 tilings of each of 108 problems on one H100 (docs/decisions/0071-hopper-cost-model.md).
constexpr std::array<ClassCosts, kForwardClasses.size()> kForwardCosts{{
    {0.299, 0.085, 0.56},  // 32x1
    {0.475, 0.199, 1.92},  // 32x2
    {0.390, 0.068, 0.77},  // 64x1
    {0.555, 0.213, 1.95},  // 64x2
    {0.663, 0.221, 2.40},  // 96x2
    {0.803, 0.093, 2.83},  // 128x2
    {0.869, 0.050, 3.46},  // 192x2
    {0.749, 0.040, 4.14},  // 256x2
}};

// Of two heads. Estimates, to be fitted: from one-head classes by the ratios of
// docs/decisions/0075-hopper-head-dim-32.md.
constexpr std::array<ClassCosts, kForwardPairsClasses.size()> kForwardPairsCosts{{
    {0.67, 0.15, 0.58},  // 32x1
    {0.94, 0.33, 2.30},  // 32x2
}};

// Of both passes together.
constexpr std::array<ClassCosts, kBackwardClasses.size()> kBackwardCosts{{
    {0.98, 0.24, 2.6},  // 32x1
    {1.55, 0.26, 5.0},  // 64x1
    {1.26, 0.25, 4.7},  // 64x2
    {1.61, 0.30, 4.0},  // 96x2
    {1.81, 0.28, 4.0},  // 128x2
    {3.05, 0.28, 5.0},  // 192x2
    {2.40, 0.20, 5.0},  // 256x2
}};

constexpr std::array<ClassCosts, kOnePassClasses.size()> kOnePassCosts{{
    {1.71, 0.30, 3.0},  // 64x2
    {1.46, 0.28, 3.0},  // 128x2
}};

/// What a tile that one warpgroup of two needs takes more, as a share of `tile`: no other keeps the tensor cores busy.
constexpr double kForwardLone = 0.41;
constexpr double kBackwardLone = 0.6;
/// Masks of tiles that leave columns over take this much longer: one more word to look up. Forward it hardly does more
/// than to decide between tilings that are equal otherwise.
constexpr double kForwardShortMask = 1.026;
constexpr double kBackwardShortMask = 1.3;
/// How much of the time in which the last blocks work is lost; meanwhile the others leave them power and memory.
constexpr double kForwardIdleLoss = 0.86;
constexpr double kBackwardIdleLoss = 0.7;

constexpr double kLaunchSeconds = 4e-6;
/// As an event before and one behind it see it: filling the first stages and writing the last rows too, by the number
/// of warpgroups.
constexpr std::array kForwardLaunchSeconds{17e-6, 23e-6};
constexpr double kCopySeconds = 22e-9;           // of a producer, for each box that it asks the copy engine for
constexpr double kBytesPerSecond = 5e12;         // from the second-level cache
constexpr double kAddedBytesPerSecond = 2.5e12;  // to floats there
constexpr double kMemoryBytesPerSecond = 2.5e12;
constexpr double kExtraMultiplyAddsPerSecond = 1e13;  // gradients of extra tokens, without matrix products: an estimate

const ClassCosts& class_costs(Method method, const KernelClass& size) {
  const std::size_t index = class_index(classes_of(method), size.dim, size.warpgroups);
  if (method == Method::forward) return kForwardCosts[index];
  if (method == Method::forward_pairs) return kForwardPairsCosts[index];
  if (method == Method::backward) return kBackwardCosts[index];
  return kOnePassCosts[index];
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

Deal deal_of(const TiledGrid& grid, Method method, const KernelClass& size, RowKind rows) {
  const ClassCosts& costs = class_costs(method, size);
  const double share = share_of(method, size, rows);
  const double seconds = 1e-6 * size.blocks;  // of a block, for a microsecond of its multiprocessor
  const BlockCosts of_block{.tile = share * costs.tile * size.warpgroups * seconds,
                            .item = share_of_items(method) * costs.item * seconds};
  return best_deal(grid, rows, size.blocks, of_block);
}

CostModel::CostModel(const Problem& grid, Method method, const KernelClass& size)
    : grid_(grid),
      columns_(size.columns),
      extra_kv_(grid.extra_kv),
      places_(kMultiprocessors * size.blocks),
      warpgroups_(size.warpgroups),
      short_mask_(is_forward(method) ? kForwardShortMask : kBackwardShortMask),
      idle_loss_(is_forward(method) ? kForwardIdleLoss : kBackwardIdleLoss),
      launch_seconds_(is_forward(method) ? kForwardLaunchSeconds[size.warpgroups - 1] : kLaunchSeconds),
      copy_seconds_(0) {
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
  byte_seconds_ = heads * dims * element / kBytesPerSecond;
  if (is_forward(method)) {
    const std::int64_t chunks = ceil_div(joined * grid.dim, kChunk) + ceil_div(joined * grid.dim_v, kChunk);
    copy_seconds_ = heads * static_cast<double>(chunks) * kCopySeconds / kMultiprocessors;
  }
  const double extra_pairs = heads * static_cast<double>(grid.tokens()) * static_cast<double>(grid.extra_kv);
  aside_seconds_ = method == Method::backward ? 2 * extra_pairs * dims / kExtraMultiplyAddsPerSecond : 0;
  if (method == Method::backward_one_pass) {
    constexpr auto kSum = static_cast<double>(sizeof(float));
    const double elements = heads * static_cast<double>(grid.dim);
    byte_seconds_ += elements * kSum / kAddedBytesPerSecond;
    const double bytes = static_cast<double>(grid.tokens()) * elements * (2 * kSum + element);
    aside_seconds_ = bytes / kMemoryBytesPerSecond + 2 * kLaunchSeconds;
  }
  PassCosts* next = passes_.data();
  for (const RowKind rows : passes) {
    // The query heads that share a head of keys make one item where keys are kept.
    const double item_heads = rows == RowKind::queries ? heads : heads_kv;
    const double tile = share_of(method, size, rows) * costs.tile * heads * kSeconds;
    *next++ = {rows,
               item_heads,
               tile,
               item_share * costs.mask * heads * kSeconds,
               item_share * costs.item * item_heads * kSeconds,
               tile * (is_forward(method) ? kForwardLone : kBackwardLone)};
  }
}

CostModel::Tile CostModel::tile(const PerAxis<std::int64_t>& shape) const {
  const std::int64_t volume = shape[0] * shape[1] * shape[2];
  const int copies = copy_seconds_ > 0 ? TileShape(shape, grid_.dilation).copies() : 1;
  return {static_cast<double>(volume), static_cast<double>(ceil_div(extra_kv_, volume)),
          copies > 1 ? static_cast<double>(copies) : 0, volume == columns_};
}

double CostModel::seconds(std::size_t pass, const Work& work, const Tile& tile, double idling) const {
  const PassCosts& costs = passes_[pass];
  const double extra = costs.rows == RowKind::queries ? work.items * tile.extra : 0;
  const double visited = work.visited + extra * warpgroups_;
  const double masked = tile.full ? visited - work.unmasked : visited * short_mask_;
  const double bytes = (work.loaded + extra) * tile.volume * byte_seconds_;
  const double copies = work.loaded * tile.copies * copy_seconds_;
  const double lone = std::max(work.loaded * warpgroups_ - work.visited, 0.0);
  const double busy = visited * costs.tile + masked * costs.mask + lone * costs.lone + work.items * costs.item;
  return std::max({busy * idling, bytes, copies}) + launch_seconds_;
}

CostModel::Shares CostModel::shares(std::size_t pass) const {
  const PassCosts& costs = passes_[pass];
  const double lone = costs.lone / (costs.tile + costs.mask);
  return {1 - lone, lone * warpgroups_};
}

double CostModel::seconds(std::span<const Work> works, const PerAxis<std::int64_t>& tile_shape,
                          std::span<const double> idling) const {
  double sum = aside_seconds_;
  for (std::size_t pass = 0; pass < works.size(); ++pass) {
    sum += seconds(pass, works[pass], tile(tile_shape), idling[pass]);
  }
  return sum;
}

}  // namespace vicinal::cuda::sm90
