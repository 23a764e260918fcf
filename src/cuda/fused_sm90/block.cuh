#pragma once

// What the roles of a block of the fused Hopper kernels share.
//
// A block keeps *rows*, a box of up to 64 tokens for each consumer warpgroup, and lets tiles of *columns* pass by
// (tiles.h). Of a token it reads up to two vectors: of head dim (`key`: a key, or a query where rows are keys), of
// which scores are made, and of value dim (`value`: a value, or a gradient of the output).

#include <cstdint>
#include <span>

#include "core/view.h"
#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/parameters.h"
#include "cuda/fused_sm90/ptx.h"
#include "cuda/fused_sm90/tiles.h"

namespace vicinal::cuda::sm90 {

/// What a kernel computes.
enum class Pass : std::uint8_t {
  forward,         ///< rows are queries: output and logsumexp
  forward_pairs,   ///< the same for two heads at a time, side by side in the rows of tiles
  grad_query,      ///< rows are queries
  grad_key_value,  ///< rows are keys
  grad_key,        ///< the same in two kernels, for head dims at which registers do not hold both gradients
  grad_value,
  gradients  ///< rows are keys: as grad_key_value, and what tiles of queries get is added to sums in memory
};

constexpr bool is_forward(Pass pass) { return pass == Pass::forward || pass == Pass::forward_pairs; }

constexpr RowKind rows_of(Pass pass) {
  return is_forward(pass) || pass == Pass::grad_query ? RowKind::queries : RowKind::keys;
}

constexpr std::span<const KernelClass> classes_of(Pass pass) {
  if (pass == Pass::forward) return kForwardClasses;
  if (pass == Pass::forward_pairs) return kForwardPairsClasses;
  if (pass == Pass::gradients) return kOnePassClasses;
  return kBackwardClasses;
}

template <class ElementType, Pass kPassOf, int kDimClass, int kWarpgroupCount>
struct KernelConfig {
  static constexpr KernelClass kClass =
      classes_of(kPassOf)[class_index(classes_of(kPassOf), kDimClass, kWarpgroupCount)];

  using Element = ElementType;
  static constexpr Pass kPass = kPassOf;
  static constexpr RowKind kRows = rows_of(kPass);
  /// Vectors of each row that are kept: those of head dim, and those of value dim where dP is computed.
  static constexpr int kRowTensors = is_forward(kPass) || kPass == Pass::grad_value ? 1 : 2;
  static constexpr bool kMayMakeDelta = kPass == Pass::grad_query && may_make_delta(kClass);
  /// Whether columns, which are queries, come with their logsumexp and delta.
  static constexpr bool kHasStatistics = kRows == RowKind::keys;
  static constexpr bool kSumsQueries = kPass == Pass::gradients;
  /// Whether two warpgroups begin products in turn, so that one multiplies while the other computes exponentials. At
  /// head dim 256 the tensor cores never wait for those anyway.
  static constexpr bool kTakesTurns = is_forward(kPass) && kClass.warpgroups == 2 && kClass.dim < 256;
  /// Whether tiles that bring some rows their first scores are told apart, where scores are looked through only when
  /// exponentials have been computed. At head dim 192 registers do not suffice, and there is next to nothing to gain.
  static constexpr bool kTellsFirsts = kTakesTurns && kClass.dim <= 128;
  /// In the forward pass values are wanted a tile later than keys.
  static constexpr int kValueLag = is_forward(kPass) ? 1 : 0;
  static constexpr int kDim = kClass.dim;  ///< of all vectors in registers and products, zero-padded
  /// Whose vectors lie side by side in the rows of tiles, as if they were one head's.
  static constexpr int kHeads = kPass == Pass::forward_pairs ? kPairedHeads : 1;
  static constexpr int kWarpgroups = kClass.warpgroups;
  static constexpr int kColumns = kClass.columns;
  static constexpr int kStages = kClass.stages;
  static constexpr int kRowStages = kClass.row_stages;
  static constexpr int kChunks = (kHeads * kDim + kChunk - 1) / kChunk;
  static constexpr int kBlocks = kClass.blocks;
  /// Whether rows that begin between words may stay rotated (shift.h): of two heads in a row each would take an element
  /// of the other's.
  static constexpr bool kRotates = kPass == Pass::forward;
  static constexpr bool kMayShare = is_forward(kPass) && may_share_columns(kClass);
  static constexpr int kConsumers = 128 * kWarpgroups;
  /// A warpgroup where it gives registers to the consumers, else a warp.
  static constexpr int kProducers = kBlocks == 1 ? 128 : 32;
  static constexpr int kThreads = kConsumers + kProducers;
  /// Warps that copy a tile together, where threads copy and no other stage is free meanwhile.
  static constexpr int kTileCopiers = kProducers > 32 && kStages == 2 ? 2 : 1;
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
  static constexpr std::uint32_t kRotated = 1U << 31;  ///< sums are rotated

  int skipped_before;             ///< tiles to let pass first; negative where there is no more work
  int attended;                   ///< tiles of the grid; 0 where the warpgroup has no rows
  int skipped_after;              ///< tiles to let pass then
  int extra;                      ///< tiles of extra tokens
  std::int64_t first[kRowViews];  ///< elements to the first token of the box, in each of the views
  std::uint32_t members;          ///< positions along each axis that hold a token, a byte each; and kRotated
  int fast_axis;                  ///< along which column tiles follow each other
};

/// Of a query, where it is a column.
template <int kColumns>
struct ColumnStatistics {
  float of_weight[kColumns];    ///< logsumexp; where sums of dQ are in memory, weight_bias
  float of_gradient[kColumns];  ///< delta; or gradient_bias (delta.h)
};

/// What warpgroups give each other, and memory, where sums of dQ are in memory.
template <class Config, bool = Config::kSumsQueries>
struct QueryGradients {};
template <class Config>
struct QueryGradients<Config, true> {
  /// dQ of a tile, on its way out: of each 32 elements the queries.
  alignas(1024) std::uint8_t sums[Config::kStages][Config::kDim / kSumChunk][Config::kColumns][128];
  Barrier scores_laid[Config::kStages];  ///< by every warp
  Barrier scores_read[Config::kStages];  ///< likewise
  Barrier sums_read[Config::kStages];    ///< by the copy engine
  int place[2 * Config::kStages][4];     ///< of tiles in the sums in memory, by stage and phase: coordinates 1 to 4
};

template <class Config>
struct SharedMemory {
  static constexpr int kRowBytes = 128;
  static constexpr int kMostRows = larger(Config::kColumns, kWarpgroupRows);
  /// Whether rows may take all room, so that there is none for the bytes before one that begins between words.
  static constexpr bool kFillsChunks = Config::kHeads * Config::kDim == Config::kChunks * kChunk;
  static constexpr int kCopyingWarps = Config::kProducers / 32;
  static constexpr int kCopiedTiles = kCopyingWarps == 1 ? 2 : 1;  // of a warp, on their way
  static constexpr bool kShiftsHalves = kCopiedTiles == 1 && Config::kChunks > 1 && !is_forward(Config::kPass);
  using RowBox = std::uint8_t[Config::kChunks][kWarpgroupRows][kRowBytes];
  using ColumnTile = std::uint8_t[Config::kChunks][Config::kColumns][kRowBytes];

  /// Rows of which delta is made lie behind the others.
  alignas(1024) RowBox row[Config::kRowStages][Config::kRowTensors + Config::kMayMakeDelta][Config::kWarpgroups];
  ColumnTile key[Config::kStages];
  ColumnTile value[Config::kStages];
  /// Rows on their way out, each warp its own. Before that, where sums of dQ are in memory, dS^T: of each chunk of
  /// queries the rows, which are keys, of all warpgroups.
  alignas(1024) std::uint8_t
      output[Config::kSumsQueries ? Config::kColumns / kChunk : 1][Config::kWarpgroups][kWarpgroupRows][kRowBytes];
  QueryGradients<Config> query_gradients;
  ColumnMasks<Config::kColumns> masks;
  ItemNote item[Config::kRowStages][Config::kWarpgroups];
  TileNote tile[Config::kStages][Config::kWarpgroups];
  /// What rows at each position of a box see along the first axis, then along the second, then along the third.
  Range row_columns[Config::kRowStages][Config::kWarpgroups][kWarpgroupRows + 2];
  std::int64_t row_offset[kRowViews][kWarpgroupRows];  ///< elements from a box's first token, in each of the views
  // Where threads copy tiles:
  std::int64_t column_offset[2][Config::kColumns];  ///< elements from the first token, of keys and of values
  /// Of each warp, of its last tiles:
  const std::uint8_t* found_rows[kCopyingWarps][kCopiedTiles][kMostRows];
  /// what is beyond the last chunk of a row until it is shifted.
  std::uint32_t row_end[kCopyingWarps][kCopiedTiles][kFillsChunks ? kMostRows : 1];
  std::uint32_t row_middle[kCopyingWarps][kShiftsHalves ? kMostRows : 1];  ///< and before the chunks shifted first
  PackedPosition row_position[kWarpgroupRows];
  PackedPosition column_position[Config::kColumns];
  Barrier row_full[Config::kRowStages], row_empty[Config::kRowStages];
  Barrier key_full[Config::kStages], key_empty[Config::kStages];
  Barrier value_full[Config::kStages], value_empty[Config::kStages];
  Barrier turn[Config::kWarpgroups];  ///< of each warpgroup, given by the warps of the other
  alignas(16) ColumnStatistics<Config::kHasStatistics ? Config::kColumns : 4> statistics
      [Config::kHasStatistics ? Config::kStages : 1];  ///< with the keys of a stage
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
  [[nodiscard]] __device__ RingPosition before() const {
    return stage == 0 ? RingPosition{kStages - 1, phase ^ 1} : RingPosition{stage - 1, phase};
  }
};

/// Which tokens of which head a tile holds.
struct TileOrigin {
  int batch;
  int head;
  int token[3];  ///< of the tile's first position
};

__device__ inline std::int64_t token_offset(const View& view, int batch, const int (&token)[3], int head) {
  return batch * view.batch_stride + token[0] * view.axis_stride[0] + token[1] * view.axis_stride[1] +
         token[2] * view.axis_stride[2] + head * view.head_stride;
}

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
