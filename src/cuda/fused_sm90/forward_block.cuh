#pragma once

// What the roles of a block of the fused Hopper forward kernel share.

#include <cstdint>

#include "core/view.h"
#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/ptx.h"
#include "cuda/fused_sm90/tiles.h"

namespace vicinal::cuda::sm90 {

template <class ElementType, int kDimClass, int kWarpgroupCount>
struct ForwardConfig {
  static constexpr ForwardClass kClass = kForwardClasses[forward_class(kDimClass, kWarpgroupCount)];

  using Element = ElementType;
  static constexpr int kDim = kClass.dim;  ///< of queries, keys and values in registers and products, zero-padded
  static constexpr int kWarpgroups = kClass.warpgroups;
  static constexpr int kColumns = kClass.columns;
  static constexpr int kStages = kClass.stages;
  static constexpr int kQueries = kClass.query_stages;
  static constexpr int kChunks = (kDim + kChunk - 1) / kChunk;
  static constexpr int kBlocks = kClass.blocks;
  static constexpr int kConsumers = 128 * kWarpgroups;
  /// A warpgroup where it gives registers to the consumers, else a warp.
  static constexpr int kProducers = kBlocks == 1 ? 128 : 32;
  static constexpr int kThreads = kConsumers + kProducers;
};

template <class Config>
struct SharedMemory {
  static constexpr int kRowBytes = 128;
  using QueryTile = std::uint8_t[Config::kChunks][kWarpgroupRows][kRowBytes];
  using KeyTile = std::uint8_t[Config::kChunks][Config::kColumns][kRowBytes];

  alignas(1024) QueryTile query[Config::kQueries][Config::kWarpgroups];
  KeyTile key[Config::kStages];
  KeyTile value[Config::kStages];
  alignas(1024) std::uint8_t zeros[16][kRowBytes];
  std::uint8_t output[Config::kConsumers / 32][16][kRowBytes];  ///< of each warp, on its way out
  ColumnMasks<Config::kColumns> masks;
  /// What queries of a box see along each axis, by warpgroup and parity of the work item: RowKeys below.
  Range row_keys[Config::kWarpgroups][2][kWarpgroupRows + 2];
  PackedPosition query_position[kWarpgroupRows];
  PackedPosition key_position[Config::kColumns];
  Barrier query_full[Config::kQueries], query_empty[Config::kQueries];
  Barrier key_full[Config::kStages], key_empty[Config::kStages];
  Barrier value_full[Config::kStages], value_empty[Config::kStages];
};

#if VICINAL_HOPPER_CODE

/// Where a role is in a ring of stages.
template <int kStages>
struct RingPosition {
  int stage = 0;
  int phase = 0;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

__device__ inline std::int64_t token_offset(const View& view, int batch, const int (&token)[3], int head) {
  return batch * view.batch_stride + token[0] * view.axis_stride[0] + token[1] * view.axis_stride[1] +
         token[2] * view.axis_stride[2] + head * view.head_stride;
}

/// The axes of a work item, each found by one lane in three: the arithmetic is long, and this way there is one copy.
__device__ inline void find_axes(const TiledGrid& grid, const WorkItem& item, int warpgroup, AxisShare (&axes)[3]) {
  const int mine = static_cast<int>(threadIdx.x) % 32 % 3;
  const int group = mine == 0 ? item.group[0] : (mine == 1 ? item.group[1] : item.group[2]);
  const int origin = mine == 0 ? item.origin[0] : (mine == 1 ? item.origin[1] : item.origin[2]);
  const AxisShare found = axis_share(grid, mine, group, origin, warpgroup);
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    const auto of = [a](int value) { return __shfl_sync(~0U, value, a); };
    const auto range_of = [of](Range range) { return Range{of(range.begin), of(range.end)}; };
    axes[a].queries = range_of(found.queries);
    axes[a].halo_begin = of(found.halo_begin);
    axes[a].key_tiles = of(found.key_tiles);
    axes[a].needed = range_of(found.needed);
    axes[a].together = range_of(found.together);
    axes[a].unmasked = range_of(found.unmasked);
  }
}

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
