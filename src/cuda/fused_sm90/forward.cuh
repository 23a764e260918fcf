#pragma once

// Fused neighborhood attention, forward, for Hopper (the frame: kernel.cuh).
//
// Rows are queries. Consumers keep 64 rows of scores S = Q K^T and of output O in registers: while the scores of one
// key tile become probabilities (online softmax), the tensor cores add the product of the tile before, P V, to O. A
// consumer skips key tiles that none of its queries sees and masks those that some do not see entirely (ColumnMasks).
//
// Where heads are pairs, a row of a tile holds the vectors of two heads of 32 elements, and consumers take them in
// turn: a tile is copied, waited for and masked once for both.
//
// Registers: KernelConfig. Shared memory: SharedMemory.

#include "cuda/fused_sm90/forward_consumer.cuh"
#include "cuda/fused_sm90/kernel.cuh"

namespace vicinal::cuda::sm90 {

template <class Element, int kDim, int kWarpgroups>
void launch_forward(const Problem& problem, const Parameters& parameters, Dealing dealing, void* stream) {
  using Config = KernelConfig<Element, Pass::forward, kDim, kWarpgroups>;
  launch<Config, ForwardConsumer>("fused_sm90_forward", problem, parameters, dealing, stream);
}

template <class Element, int kDim, int kWarpgroups>
void launch_forward_pairs(const Problem& problem, const Parameters& parameters, Dealing dealing, void* stream) {
  using Config = KernelConfig<Element, Pass::forward_pairs, kDim, kWarpgroups>;
  launch<Config, ForwardConsumer>("fused_sm90_forward_pairs", problem, parameters, dealing, stream);
}

}  // namespace vicinal::cuda::sm90
