#pragma once

// Fused neighborhood attention, forward, for Hopper.
//
// A block takes work items in turns: a query tile of one box of up to 64 tokens for each of its consumer warpgroups,
// and the key tiles of their halo. The last warps produce: they fill a ring of key and one of value tiles by the copy
// engine (or, where strides forbid that, with all of its threads), ahead across work items. Consumers keep 64 rows of
// scores S = Q K^T and of output O in registers: while the scores of one tile become probabilities (online softmax),
// the tensor cores add the product of the tile before, P V, to O. A consumer skips key tiles that none of its queries
// sees and masks those that some do not see entirely (ColumnMasks).
//
// Registers: ForwardConfig. Shared memory: SharedMemory.

#include <cuda_runtime.h>

#include "cuda/common/grid.h"
#include "cuda/common/launch.cuh"
#include "cuda/fused_sm90/forward_consumer.cuh"
#include "cuda/fused_sm90/forward_producer.cuh"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

/// Zeros everywhere that tiles may not fill, tables, barriers.
template <class Config>
__device__ void prepare(const ForwardParameters& p, SharedMemory<Config>& shared) {
  using Masks = ColumnMasks<Config::kColumns>;
  const int thread = static_cast<int>(threadIdx.x);
  const TiledGrid& grid = p.grid;
  if (p.dim < Config::kDim || p.dim_v < Config::kDim || grid.keys.volume < Config::kColumns) {
    const std::uint32_t begin = shared_address(&shared.query);
    const std::uint32_t end = shared_address(&shared.output);
#pragma unroll 1
    for (std::uint32_t at = begin + 16 * thread; at < end; at += 16 * Config::kThreads) {
      store_shared(at, uint4{0, 0, 0, 0});
    }
  }
#pragma unroll 1
  for (int i = thread; i < kWarpgroupRows; i += Config::kThreads) {
    const PackedPosition at(grid.queries, i);
    int token[3];
    for (int a = 0; a < 3; ++a) token[a] = at.along(a) * grid.axes[a].dilation;
    shared.query_position[i] = at;
    shared.output_offset[i] = token_offset(p.output, 0, token, 0);
    shared.logsumexp_offset[i] = token_offset(p.logsumexp, 0, token, 0);
  }
#pragma unroll 1
  for (int i = thread; i < Config::kColumns; i += Config::kThreads) shared.key_position[i] = {grid.keys, i};
  if (thread == 0) {
    const int fills = p.by_copy_engine ? 1 : Config::kProducers;
    const int releases = 4 * Config::kWarpgroups;  // one for each warp
    for (int s = 0; s < Config::kQueries; ++s) {
      shared.query_full[s].init(fills);
      shared.query_empty[s].init(releases);
    }
    for (int s = 0; s < Config::kStages; ++s) {
      shared.key_full[s].init(fills + 1);  // and the note
      shared.key_empty[s].init(releases);
      shared.value_full[s].init(fills);
      shared.value_empty[s].init(releases);
    }
    fence_barriers();
  }
  __syncthreads();
#pragma unroll 1
  for (int i = thread; i < Masks::kPrefixes * Masks::kLanes; i += Config::kThreads) {
    const int entry = i / Masks::kLanes;
    const int lane = i % Masks::kLanes;
    shared.masks.prefix[entry][lane] = Masks::make(grid.keys, shared.key_position, entry, lane);
  }
  fence_async_proxy();
  __syncthreads();
}

#endif  // VICINAL_HOPPER_CODE

template <class Config>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks)
    forward_kernel(const __grid_constant__ ForwardParameters parameters) {
#if VICINAL_HOPPER_CODE
  extern __shared__ std::uint8_t memory[];
  // Not by rounding the pointer up: the compiler is to see that it points to shared memory.
  auto& shared = *reinterpret_cast<SharedMemory<Config>*>(memory + (-shared_address(memory) & 1023));
  prepare(parameters, shared);
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  constexpr bool kMovesRegisters = Config::kBlocks == 1;
  if (warpgroup == Config::kWarpgroups) {
    if constexpr (kMovesRegisters) give_registers_back<Config::kProducerRegisters>();
    Producer<Config>(parameters, shared).run();
  } else {
    if constexpr (kMovesRegisters) take_registers<Config::kConsumerRegisters>();
    Consumer<Config>(parameters, shared, warpgroup).run();
  }
#endif
}

template <class Config>
void launch_forward(const Problem& problem, const ForwardParameters& parameters, void* stream) {
  constexpr std::size_t kSharedBytes = sizeof(SharedMemory<Config>) + 1024;
  static_assert((kSharedBytes + 1024) * Config::kBlocks <= 228 * 1024);
  const Launcher launcher(problem, stream);
  launcher.allow_shared_memory("fused_sm90_forward", forward_kernel<Config>, kSharedBytes);
  launcher.launch("fused_sm90_forward", forward_kernel<Config>,
                  launcher.persistent_blocks(parameters.grid.items, Config::kBlocks), Config::kThreads, kSharedBytes,
                  parameters);
}

}  // namespace vicinal::cuda::sm90
