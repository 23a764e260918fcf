#include "cpu/fused/schedule.h"

#include <fmt/format.h>

#include <limits>

#include "plan/cost.h"

namespace vicinal::cpu {
namespace {

// Shares of a core's second-level cache (half a megabyte on the smallest machines we aim at).
constexpr std::int64_t kStagedBytes = std::int64_t{192} * 1024;
constexpr std::int64_t kStateBytes = std::int64_t{320} * 1024;
constexpr std::int64_t kMostBlockTiles = 36;

// Work items below which blocks are made smaller, so that a many-core machine has something to share out.
constexpr std::int64_t kEnoughItems = 64;

// Blocks that one thread does one after the other, knowing which one comes next.
constexpr std::int64_t kMostBlocksOfARun = 16;

// The cost model, in units of one multiply-add of a whole query tile (16 lanes); fitted on one machine, where it only
// has to rank shapes.
constexpr double kUnitsPerKey = 24;         // list, mask, exponential of one key
constexpr double kUnitsPerTileElement = 5;  // transposing one element of query and output in and out

// Of one core, with 8-wide vectors.
constexpr double kMultiplyAddsPerCycle = 8;

// Extents beyond this are shortened before shapes are compared: their interior repeats.
constexpr std::int64_t kLongestSample = 1024;

constexpr std::int64_t compute_bytes(const Problem& grid) { return grid.dtype == DType::fp64 ? 8 : 4; }

constexpr std::int64_t staged_bytes_per_key(const Problem& grid, Operation operation) {
  const std::int64_t gradients = operation == Operation::backward ? padded(grid.dim) + padded(grid.dim_v) : 0;
  return (grid.dim + grid.dim_v + gradients) * compute_bytes(grid);
}

constexpr std::int64_t state_bytes_per_tile(const Problem& grid, Operation operation) {
  const std::int64_t dim = padded(grid.dim);
  const std::int64_t dim_v = padded(grid.dim_v);
  const std::int64_t elements = operation == Operation::forward ? dim + dim_v : 3 * dim + 2 * dim_v;
  return elements * kLanes * compute_bytes(grid);
}

/// Multiply-adds per (query, key) pair: scores and their use.
constexpr std::int64_t multiply_adds_per_pair(const Problem& grid, Operation operation) {
  return operation == Operation::forward ? grid.dim + grid.dim_v : 3 * grid.dim + 2 * grid.dim_v;
}

constexpr std::int64_t largest_phase(const Problem& grid, int axis) {
  return ceil_div(grid.layout[axis], grid.dilation[axis]);
}

/// One axis of the largest phase, shortened where it is long.
AxisWindow sample_axis(const Problem& grid, int axis) {
  AxisWindow sample = axis_window(grid, axis, 0);
  sample.members = std::min(sample.members, std::max(kLongestSample, 2 * sample.window + kLongestSample / 2));
  return sample;
}

/// Mean halo of tiles of `extent` queries, in keys, and tiles per query.
struct AxisTiles {
  double keys_per_query;
  double tiles_per_query;
};

AxisTiles axis_tiles(const AxisWindow& axis, std::int64_t extent) {
  double keys = 0;
  double tiles = 0;
  for (std::int64_t q = 0; q < axis.members; q += extent) {
    keys += static_cast<double>(halo(axis, {q, std::min(q + extent, axis.members)}).size());
    tiles += 1;
  }
  const auto members = static_cast<double>(axis.members);
  return {keys / members, tiles / members};
}

PerAxis<std::int64_t> choose_query_tile(const Problem& grid, Operation operation) {
  std::array<AxisWindow, 3> axes;
  std::array<std::array<AxisTiles, kLanes + 1>, 3> table;
  PerAxis<std::int64_t> limit;
  for (int a = 0; a < 3; ++a) {
    axes[a] = sample_axis(grid, a);
    limit[a] = std::min(kLanes, axes[a].members);
    for (std::int64_t t = 1; t <= limit[a]; ++t) table[a][static_cast<std::size_t>(t)] = axis_tiles(axes[a], t);
  }
  const auto per_pair = static_cast<double>(multiply_adds_per_pair(grid, operation));
  PerAxis<std::int64_t> best{1, 1, 1};
  double best_units = std::numeric_limits<double>::infinity();
  for (std::int64_t x = 1; x <= limit[0]; ++x) {
    for (std::int64_t y = 1; y <= limit[1] && x * y <= kLanes; ++y) {
      for (std::int64_t z = 1; z <= limit[2] && x * y * z <= kLanes; ++z) {
        const AxisTiles& tx = table[0][static_cast<std::size_t>(x)];
        const AxisTiles& ty = table[1][static_cast<std::size_t>(y)];
        const AxisTiles& tz = table[2][static_cast<std::size_t>(z)];
        const double keys = tx.keys_per_query * ty.keys_per_query * tz.keys_per_query;
        const double tiles = tx.tiles_per_query * ty.tiles_per_query * tz.tiles_per_query;
        const double units = (keys + tiles * static_cast<double>(grid.extra_kv)) * (per_pair + kUnitsPerKey) +
                             tiles * per_pair * kUnitsPerTileElement;
        // Of equal shapes the one longest along the last axis, whose tokens are nearest in memory.
        if (units < best_units * (1 - 1e-9) || (units < best_units * (1 + 1e-9) && z > best[2])) {
          best_units = units;
          best = {x, y, z};
        }
      }
    }
  }
  return best;
}

/// Grows the block a tile at a time along the axis where that adds the smallest halo.
PerAxis<std::int64_t> choose_block(const Problem& grid, Operation operation, const PerAxis<std::int64_t>& query_tile) {
  const std::int64_t state_limit = kStateBytes / state_bytes_per_tile(grid, operation);
  const std::int64_t most_tiles = std::clamp<std::int64_t>(state_limit, 1, kMostBlockTiles);
  PerAxis<std::int64_t> block{1, 1, 1};
  std::array<AxisWindow, 3> axes;
  for (int a = 0; a < 3; ++a) axes[a] = sample_axis(grid, a);
  const auto items = [&](const PerAxis<std::int64_t>& shape) {
    std::int64_t count = grid.batch * grid.heads * phase_count(grid);
    for (int a = 0; a < 3; ++a) count *= ceil_div(largest_phase(grid, a), shape[a] * query_tile[a]);
    return count;
  };
  for (;;) {
    int best_axis = -1;
    double best_growth = std::numeric_limits<double>::infinity();
    for (int a = 0; a < 3; ++a) {
      PerAxis<std::int64_t> grown = block;
      grown[a] += 1;
      if (block[a] * query_tile[a] >= largest_phase(grid, a)) continue;  // the block spans the axis already
      if (grown[0] * grown[1] * grown[2] > most_tiles) continue;
      if (operation == Operation::forward && items(grown) < kEnoughItems) continue;
      // Keys that one more tile brings, over the tiles that it adds.
      const auto reach = static_cast<double>(std::min(axes[a].members, block[a] * query_tile[a] + axes[a].window - 1));
      const auto larger = static_cast<double>(std::min(axes[a].members, grown[a] * query_tile[a] + axes[a].window - 1));
      const double growth = (larger / reach) * static_cast<double>(block[a]) / static_cast<double>(grown[a]);
      if (growth < best_growth) {
        best_growth = growth;
        best_axis = a;
      }
    }
    if (best_axis < 0) return block;
    block[best_axis] += 1;
  }
}

/// The halo of a block, cut along the leading axes until a tile of it fits the cache.
PerAxis<std::int64_t> choose_key_tile(const Problem& grid, Operation operation, const PerAxis<std::int64_t>& query_tile,
                                      const PerAxis<std::int64_t>& block) {
  const std::int64_t most_keys = std::max(kLanes, kStagedBytes / staged_bytes_per_key(grid, operation));
  PerAxis<std::int64_t> tile;
  for (int a = 0; a < 3; ++a) {
    tile[a] = std::min(largest_phase(grid, a), block[a] * query_tile[a] + grid.window[a] + grid.stride[a] - 2);
  }
  for (int a = 0; a < 3; ++a) {
    const std::int64_t volume = tile[0] * tile[1] * tile[2];
    if (volume <= most_keys) break;
    const std::int64_t rest = volume / tile[a];
    const std::int64_t fits = std::max<std::int64_t>(1, most_keys / rest);
    tile[a] = ceil_div(tile[a], ceil_div(tile[a], fits));  // pieces of nearly equal size
  }
  return tile;
}

}  // namespace

Tiling choose_tiling(const Problem& grid, Operation operation) {
  Tiling tiling;
  tiling.query_tile = choose_query_tile(grid, operation);
  tiling.block = choose_block(grid, operation, tiling.query_tile);
  tiling.key_tile = choose_key_tile(grid, operation, tiling.query_tile, tiling.block);
  tiling.rows = kLanes;
  tiling.columns = tiling.key_tile[0] * tiling.key_tile[1] * tiling.key_tile[2];
  return tiling;
}

Status accepts_tiling(const Tiling& tiling) {
  constexpr std::int64_t kMostKeys = 1 << 16;  // keeps a thread's scratch in bounds
  constexpr std::int64_t kMostTiles = 1 << 10;
  const auto volume_within = [](const PerAxis<std::int64_t>& shape, std::int64_t limit) {
    std::int64_t volume = 1;
    for (const std::int64_t extent : shape) {
      if (extent < 1 || extent > limit) return false;
      volume *= extent;
    }
    return volume <= limit;
  };
  const auto words = [](const PerAxis<std::int64_t>& s) { return fmt::format("{}x{}x{}", s[0], s[1], s[2]); };
  if (tiling.rows != kLanes) {
    return Status::refuse(fmt::format("tiling.rows = {}; allowed: {}", tiling.rows, kLanes));
  }
  if (!volume_within(tiling.query_tile, kLanes)) {
    return Status::refuse(
        fmt::format("tiling.query_tile = {}; allowed: volume 1 to {}", words(tiling.query_tile), kLanes));
  }
  if (!volume_within(tiling.key_tile, kMostKeys)) {
    return Status::refuse(
        fmt::format("tiling.key_tile = {}; allowed: volume 1 to {}", words(tiling.key_tile), kMostKeys));
  }
  if (!volume_within(tiling.block, kMostTiles)) {
    return Status::refuse(fmt::format("tiling.block = {}; allowed: volume 1 to {}", words(tiling.block), kMostTiles));
  }
  return {};
}

Cost fused_cost(const Problem& grid, const Tiling& tiling, Operation operation) {
  // Query tiles visit exactly their own halo, key by key, whatever the tile it was staged in.
  Tiling visits = tiling;
  visits.key_tile = {1, 1, 1};
  visits.columns = 1;
  Cost cost;
  cost.needed_multiply_adds = multiply_adds(grid, operation, needed_pairs(grid));
  cost.visited_multiply_adds = multiply_adds(grid, operation, visited_pairs(grid, visits));
  cost.bytes = compulsory_bytes(grid, operation);
  cost.seconds = cpu_seconds(cost.visited_multiply_adds, kMultiplyAddsPerCycle, cost.bytes);
  return cost;
}

Schedule::Schedule(const Problem& grid, const Tiling& tiling, Operation operation)
    : grid_(grid),
      tiling_(tiling),
      block_tiles_(tiling.block[0] * tiling.block[1] * tiling.block[2]),
      tile_keys_(tiling.key_tile[0] * tiling.key_tile[1] * tiling.key_tile[2]) {
  const auto shape = block_shape();
  for (int a = 0; a < 3; ++a) blocks_[a] = ceil_div(largest_phase(grid, a), shape[a]);
  if (operation == Operation::backward) choose_slabs();
}

PerAxis<std::int64_t> Schedule::block_shape() const {
  PerAxis<std::int64_t> shape;
  for (int a = 0; a < 3; ++a) shape[a] = tiling_.query_tile[a] * tiling_.block[a];
  return shape;
}

void Schedule::choose_slabs() {
  const auto shape = block_shape();
  // Halos of slabs two apart are disjoint along the axis, in every phase (phases have at most two sizes).
  const auto disjoint = [&](int axis, std::int64_t extent) {
    for (const std::int64_t group : {std::int64_t{0}, grid_.dilation[axis] - 1}) {
      const AxisWindow window = axis_window(grid_, axis, group);
      for (std::int64_t q = 2 * extent; q < window.members; q += extent) {
        const Interval earlier = halo(window, {q - 2 * extent, q - extent});
        const Interval later = halo(window, {q, std::min(q + extent, window.members)});
        if (earlier.end > later.begin) return false;
      }
    }
    return true;
  };
  for (int a = 0; a < 3; ++a) {
    const std::int64_t members = largest_phase(grid_, a);
    std::int64_t extent = shape[a];
    while (extent < members && !disjoint(a, extent)) extent += shape[a];
    const std::int64_t count = ceil_div(members, extent);
    if (a == 0 || count > slabs_) {
      slab_axis_ = a;
      slab_extent_ = extent;
      slabs_ = count;
    }
  }
}

std::int64_t Schedule::block_items() const {
  return grid_.batch * grid_.heads * phase_count(grid_) * blocks_[0] * blocks_[1] * blocks_[2];
}

std::int64_t Schedule::blocks_of_a_run(int threads) const {
  constexpr std::int64_t kRunsOfAThread = 16;  // enough to even out runs of unequal length
  return std::clamp<std::int64_t>(block_items() / (threads * kRunsOfAThread), 1, kMostBlocksOfARun);
}

Slice Schedule::slice(std::int64_t batch_and_phase, std::int64_t head) const {
  const std::int64_t phases = phase_count(grid_);
  const std::int64_t phase = batch_and_phase % phases;
  return {batch_and_phase / phases, head, phase_groups(grid_, phase), phase_grid(grid_, phase)};
}

bool Schedule::block_item(std::int64_t item, Slice& slice, Box& queries) const {
  // Heads fastest: the heads of a token share pages of memory, and those of a group share keys.
  const std::int64_t head = item % grid_.heads;
  item /= grid_.heads;
  const auto shape = block_shape();
  for (int a = 2; a >= 0; --a) {
    queries.axes[a].begin = item % blocks_[a] * shape[a];
    item /= blocks_[a];
  }
  slice = this->slice(item, head);
  for (int a = 0; a < 3; ++a) {
    queries.axes[a].end = std::min(queries.axes[a].begin + shape[a], slice.grid.axes[a].members);
  }
  return queries.volume() > 0;
}

std::int64_t Schedule::all_slabs() const { return grid_.batch * grid_.heads_kv * phase_count(grid_) * slabs_; }

std::int64_t Schedule::slab_items(int wave) const {
  const std::int64_t slices = grid_.batch * grid_.heads_kv * phase_count(grid_);
  return slices * ((slabs_ + 1 - wave) / 2);
}

bool Schedule::slab_item(int wave, std::int64_t item, Slice& slice, Box& queries, std::int64_t& slab) const {
  const std::int64_t head = item % grid_.heads_kv;
  item /= grid_.heads_kv;
  const std::int64_t in_wave = (slabs_ + 1 - wave) / 2;
  const std::int64_t position = item % in_wave * 2 + wave;
  const std::int64_t batch_and_phase = item / in_wave;
  slice = this->slice(batch_and_phase, head);
  const std::int64_t phases = phase_count(grid_);
  slab = ((slice.batch * grid_.heads_kv + head) * phases + batch_and_phase % phases) * slabs_ + position;
  for (int a = 0; a < 3; ++a) queries.axes[a] = {0, slice.grid.axes[a].members};
  Interval& cut = queries.axes[slab_axis_];
  cut = {position * slab_extent_, std::min((position + 1) * slab_extent_, cut.end)};
  return queries.volume() > 0;
}

}  // namespace vicinal::cpu
