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
  /// Registers a thread: at the launch where one block has the multiprocessor, and then, moved by setmaxnreg.
  static constexpr int kLaunchRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kProducerRegisters = 56;
  static constexpr int kConsumerRegisters =
      (kThreads * kLaunchRegisters - kProducers * kProducerRegisters) / kConsumers / 8 * 8;
  static_assert(kBlocks > 1 ||
                    kProducers * kProducerRegisters + kConsumers * kConsumerRegisters <= kThreads * kLaunchRegisters,
                "the consumers would wait for registers for ever");
};

/// What a warpgroup is to know of a work item.
struct alignas(16) ItemNote {
  int skipped_before;   ///< tiles to let pass first; negative where there is no more work
  int attended;         ///< tiles of the grid; 0 where the warpgroup has no queries
  int skipped_after;    ///< tiles to let pass then
  int extra;            ///< tiles of extra tokens
  std::int64_t output;  ///< elements to the first token of the box
  std::int64_t logsumexp;
  std::uint32_t members;  ///< positions along each axis that hold a token, a byte each
};

template <class Config>
struct SharedMemory {
  static constexpr int kRowBytes = 128;
  using QueryTile = std::uint8_t[Config::kChunks][kWarpgroupRows][kRowBytes];
  using KeyTile = std::uint8_t[Config::kChunks][Config::kColumns][kRowBytes];

  alignas(1024) QueryTile query[Config::kQueries][Config::kWarpgroups];
  KeyTile key[Config::kStages];
  KeyTile value[Config::kStages];
  alignas(1024) std::uint8_t output[Config::kConsumers / 32][16][kRowBytes];  ///< of each warp, on its way out
  ColumnMasks<Config::kColumns> masks;
  ItemNote item[Config::kQueries][Config::kWarpgroups];
  TileNote tile[Config::kStages][Config::kWarpgroups];
  /// What queries at each position of a box see along the first axis, then along the second, then along the third.
  Range row_keys[Config::kQueries][Config::kWarpgroups][kWarpgroupRows + 2];
  std::int64_t output_offset[kWarpgroupRows], logsumexp_offset[kWarpgroupRows];  ///< from a box's first token
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

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
