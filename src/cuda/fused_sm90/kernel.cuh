#pragma once

// The frame of the fused Hopper kernels. A block takes work items in turns, or one (dealing.h): the last warps produce
// (producer.cuh), they fill rings of tiles by the copy engine (or, where strides forbid that, with all of their
// threads), ahead across work items; the others consume (consumer.cuh), one warpgroup for each box of rows. Two blocks
// may take a work item together, as a cluster: each keeps rows of its own, and copies a part of each column tile for
// both, into a stage that the consumers of both have given back.

#include <cuda_runtime.h>

#include "cuda/common/grid.h"
#include "cuda/common/launch.cuh"
#include "cuda/fused_sm90/consumer.cuh"
#include "cuda/fused_sm90/producer.cuh"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

/// Zeros everywhere that tiles may not fill, tables, barriers.
template <class Config>
__device__ void prepare(const Parameters& p, SharedMemory<Config>& shared) {
  using Masks = ColumnMasks<Config::kColumns>;
  const int thread = static_cast<int>(threadIdx.x);
  const TiledGrid& grid = p.grid;
  const auto clear = [&](const void* first, const void* last, int kept_rows) {
    const std::uint32_t begin = shared_address(first);
    const std::uint32_t end = shared_address(last);
#pragma unroll 1
    for (std::uint32_t at = begin + 16 * thread; at < end; at += 16 * Config::kThreads) {
      if (static_cast<int>((at - begin) / 128 % kWarpgroupRows) >= kept_rows) store_shared(at, uint4{0, 0, 0, 0});
    }
  };
  if (p.dim < Config::kDim || p.dim_v < Config::kDim || grid.columns.volume < Config::kColumns) {
    clear(&shared.row, &shared.output, 0);
    if constexpr (Config::kHasStatistics) clear(&shared.statistics, &shared.statistics + 1, 0);
  } else if (grid.rows.volume < kWarpgroupRows) {
    // Rows without a token: of zeros, so that nothing that they meet is moved by large scores, by which bounds of other
    // rows of the warp would move too; and where columns are summed over rows, dQ gets zeros times them.
    clear(&shared.row, &shared.key, grid.rows.volume);
  }
#pragma unroll 1
  for (int i = thread; i < kWarpgroupRows; i += Config::kThreads) {
    const PackedPosition at(grid.rows, i);
    shared.row_position[i] = at;
    if (!at.holds_token()) continue;
    int token[3];
    for (int a = 0; a < 3; ++a) token[a] = at.along(a) * grid.axes[a].dilation;
    for (int v = 0; v < kRowViews; ++v) shared.row_offset[v][i] = token_offset(p.rows[v], 0, token, 0);
  }
  // The last threads have columns while the first have rows, and one between them barriers.
#pragma unroll 1
  for (int i = Config::kThreads - 1 - thread; i < Config::kColumns; i += Config::kThreads) {
    const PackedPosition at(grid.columns, i);
    shared.column_position[i] = at;
    if (p.by_copy_engine || !at.holds_token()) continue;
    int token[3];
    for (int a = 0; a < 3; ++a) token[a] = at.along(a) * grid.axes[a].dilation;
    shared.column_offset[0][i] = token_offset(p.key.view, 0, token, 0);
    shared.column_offset[1][i] = token_offset(p.value.view, 0, token, 0);
  }
  static_assert(Config::kThreads > kWarpgroupRows + Config::kColumns);
  if (thread == kWarpgroupRows) {
    const int fills = p.by_copy_engine ? 1 : Config::kTileCopiers;
    const int row_fills = p.by_copy_engine ? 1 : Config::kProducers / 32;        // all warps that copy share rows
    const int statistics = Config::kHasStatistics && p.by_copy_engine ? 32 : 0;  // one for each thread that copies them
    const int releases = 4 * Config::kWarpgroups;                                // one for each warp
    const int column_releases = Config::kMayShare ? releases * grid.sharers : releases;
    for (int s = 0; s < Config::kRowStages; ++s) {
      shared.row_full[s].init(row_fills);
      shared.row_empty[s].init(releases);
    }
    for (int s = 0; s < Config::kStages; ++s) {
      shared.key_full[s].init(fills + 1 + statistics);  // and the note
      shared.key_empty[s].init(column_releases);
      shared.value_full[s].init(fills);
      shared.value_empty[s].init(column_releases);
    }
    for (Barrier& turn : shared.turn) turn.init(4);  // one for each warp of the other warpgroup
    if constexpr (Config::kSumsQueries) {
      for (int s = 0; s < Config::kStages; ++s) {
        shared.query_gradients.scores_laid[s].init(releases);
        shared.query_gradients.scores_read[s].init(releases);
        shared.query_gradients.sums_read[s].init(1);
      }
    }
    fence_barriers();
  }
  __syncthreads();
  // Read by each thread at once: the table takes longer than all else before the first tile.
  static_assert(Config::kThreads % Masks::kLanes == 0);
  const int lane = thread % Masks::kLanes;
  PackedPosition positions[Masks::kBits];
#pragma unroll
  for (int bit = 0; bit < Masks::kBits; ++bit) positions[bit] = shared.column_position[Masks::column(lane, bit)];
#pragma unroll 1
  for (int entry = thread / Masks::kLanes; entry < Masks::kPrefixes; entry += Config::kThreads / Masks::kLanes) {
    shared.masks.prefix[entry][lane] = Masks::make(grid.columns, positions, entry);
  }
  fence_async_proxy();
  __syncthreads();
  if (Config::kMayShare && grid.sharers > 1) await_cluster();  // before either sends anything to the other
}

#endif  // VICINAL_HOPPER_CODE

template <class Config, template <class> class ConsumerOf>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks)
    fused_kernel(const __grid_constant__ Parameters parameters) {
#if VICINAL_HOPPER_CODE
  extern __shared__ std::uint8_t memory[];
  // Not by rounding the pointer up: the compiler is to see that it points to shared memory.
  auto& shared = *reinterpret_cast<SharedMemory<Config>*>(memory + (-shared_address(memory) & 1023));
  prepare(parameters, shared);
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  constexpr bool kMovesRegisters = Config::kBlocks == 1;
  if (warpgroup == Config::kWarpgroups) {
    if constexpr (kMovesRegisters) give_registers_back<Config::kProducerRegisters>();
    if (parameters.by_copy_engine) {
      Producer<Config, true>(parameters, shared).run();
    } else {
      Producer<Config, false>(parameters, shared).run();
    }
  } else {
    if constexpr (kMovesRegisters) take_registers<Config::kConsumerRegisters>();
    ConsumerOf<Config>(parameters, shared, warpgroup).run();
  }
  // Neither ends while the other may still send it tiles or give stages back.
  if (Config::kMayShare && parameters.grid.sharers > 1) await_cluster();
#endif
}

template <class Config, template <class> class ConsumerOf>
void launch(const char* name, const Problem& problem, const Parameters& parameters, Dealing dealing, void* stream) {
  constexpr std::size_t kSharedBytes = sizeof(SharedMemory<Config>) + 1024;
  static_assert((kSharedBytes + 1024) * Config::kBlocks <= 228 * 1024);
  constexpr auto kKernel = fused_kernel<Config, ConsumerOf>;
  const Launcher launcher(problem, stream);
  launcher.allow_shared_memory(name, kKernel, kSharedBytes);
  const int items = parameters.grid.items;
  const int sharers = parameters.grid.sharers;
  const unsigned blocks = dealing == Dealing::by_the_device
                              ? static_cast<unsigned>(items)
                              : launcher.persistent_blocks(items, Config::kBlocks, sharers);
  launcher.launch_clusters(name, kKernel, blocks, Config::kThreads, kSharedBytes, sharers, parameters);
}

}  // namespace vicinal::cuda::sm90
