#pragma once

// How the fused CPU kernels cut a problem: tile shapes, work items, and what they cost.

#include <array>
#include <cstdint>

#include "core/tiling.h"
#include "cpu/fused/tile.h"
#include "vicinal/plan.h"

namespace vicinal::cpu {

/// The tile shapes that the cost model prefers. Depends on the problem alone, never on the number of threads, so that
/// results do not either.
Tiling choose_tiling(const Problem& grid, Operation operation);

/// Whether the kernels can run with these shapes.
Status accepts_tiling(const Tiling& tiling);

Cost fused_cost(const Problem& grid, const Tiling& tiling, Operation operation);

/// A head of one batch entry in one dilation phase.
struct Slice {
  std::int64_t batch;
  std::int64_t head;  // query head in the forward pass, key/value head in the backward pass
  std::array<std::int64_t, 3> groups;
  PhaseGrid grid;
};

/// Work items of a pass: every block of queries of every slice.
///
/// In the backward pass a block adds to the key gradients of its whole halo. The blocks of a slice are therefore
/// grouped into slabs along one axis, long enough that the halos of two slabs that are not neighbors are disjoint: even
/// slabs run in one wave, odd ones in the next, and each slab is walked in order by one thread. Every gradient is
/// summed in the same order whatever the number of threads, without atomics and without a copy per thread.
class Schedule {
 public:
  Schedule(const Problem& grid, const Tiling& tiling, Operation operation);

  [[nodiscard]] const Problem& grid() const { return grid_; }
  [[nodiscard]] const Tiling& tiling() const { return tiling_; }

  /// Most query tiles in a block, and most keys in a staged tile.
  [[nodiscard]] std::int64_t block_tiles() const { return block_tiles_; }
  [[nodiscard]] std::int64_t tile_keys() const { return tile_keys_; }

  // Forward: items are blocks.
  [[nodiscard]] std::int64_t block_items() const;
  /// The slice of an item, and its queries; false where the phase is too small to have this block.
  [[nodiscard]] bool block_item(std::int64_t item, Slice& slice, Box& queries) const;
  /// How many consecutive items one thread takes at a time.
  [[nodiscard]] std::int64_t blocks_of_a_run(int threads) const;

  // Backward: items are slabs of one parity.
  [[nodiscard]] int waves() const { return slabs_ > 1 ? 2 : 1; }
  [[nodiscard]] std::int64_t slab_items(int wave) const;
  /// The slice of an item, its queries, and the number of its slab; false where it is empty. Slabs are numbered so that
  /// those of one key/value head of one batch entry follow each other.
  [[nodiscard]] bool slab_item(int wave, std::int64_t item, Slice& slice, Box& queries, std::int64_t& slab) const;
  [[nodiscard]] std::int64_t all_slabs() const;

  /// Queries of a block, per axis.
  [[nodiscard]] PerAxis<std::int64_t> block_shape() const;

 private:
  [[nodiscard]] Slice slice(std::int64_t batch_and_phase, std::int64_t head) const;
  void choose_slabs();

  Problem grid_;
  Tiling tiling_;
  std::int64_t block_tiles_;
  std::int64_t tile_keys_;
  PerAxis<std::int64_t> blocks_;  // per axis, in the largest phase
  int slab_axis_ = 0;
  std::int64_t slab_extent_ = 0;  // queries along slab_axis_
  std::int64_t slabs_ = 1;        // of a slice
};

}  // namespace vicinal::cpu
