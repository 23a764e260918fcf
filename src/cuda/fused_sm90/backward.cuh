#pragma once

// Fused neighborhood attention, backward, for Hopper (the frame: kernel.cuh), in two ways.
//
// Deterministic: a pass over queries computes dQ, a pass over keys dK and dV. Each makes the scores anew and writes its
// rows once, without atomics: seven products for each pair of tiles, and the same bits in every run. In one pass over
// keys: five products, dQ being added up in memory.
//
// Registers: KernelConfig. Shared memory: SharedMemory.

#include "cuda/fused_sm90/grad_key_value_consumer.cuh"
#include "cuda/fused_sm90/grad_query_consumer.cuh"
#include "cuda/fused_sm90/gradients_consumer.cuh"
#include "cuda/fused_sm90/kernel.cuh"

namespace vicinal::cuda::sm90 {

template <class Element, int kDim, int kWarpgroups>
void launch_grad_query(const Problem& problem, const Parameters& parameters, Dealing dealing, void* stream) {
  using Config = KernelConfig<Element, Pass::grad_query, kDim, kWarpgroups>;
  launch<Config, GradQueryConsumer>("fused_sm90_backward (dQ)", problem, parameters, dealing, stream);
}

/// `kPass` is grad_key_value, or grad_key or grad_value.
template <class Element, Pass kPass, int kDim, int kWarpgroups>
void launch_over_keys(const Problem& problem, const Parameters& parameters, Dealing dealing, void* stream) {
  using Config = KernelConfig<Element, kPass, kDim, kWarpgroups>;
  launch<Config, GradKeyValueConsumer>("fused_sm90_backward (dK, dV)", problem, parameters, dealing, stream);
}

template <class Element, int kDim, int kWarpgroups>
void launch_gradients(const Problem& problem, const Parameters& parameters, Dealing dealing, void* stream) {
  using Config = KernelConfig<Element, Pass::gradients, kDim, kWarpgroups>;
  launch<Config, GradientsConsumer>("fused_sm90_backward_one_pass", problem, parameters, dealing, stream);
}

}  // namespace vicinal::cuda::sm90
