#pragma once

#include <cstddef>
#include <cstdint>

#include "vicinal/plan.h"
#include "vicinal/tensor.h"

namespace vicinal {

/// Tensors of a forward pass. B batch, H heads, G heads_kv, D dim, E dim_v, N extra_kv; the last dimension is
/// contiguous.
struct ForwardTensors {
  Tensor query;        ///< [B, *layout, H, D]
  Tensor key;          ///< [B, *layout, G, D]
  Tensor value;        ///< [B, *layout, G, E]
  Tensor extra_key;    ///< [B, N, G, D]; absent when N is 0
  Tensor extra_value;  ///< [B, N, G, E]; absent when N is 0
  Tensor output;       ///< [B, *layout, H, E], written
  Tensor logsumexp;    ///< [B, *layout, H] natural log, fp32 (fp64 when the problem is fp64), written; may be absent
};

/// Tensors of a backward pass; shapes as above, each gradient shaped like what it is the gradient of.
struct BackwardTensors {
  Tensor query, key, value, extra_key, extra_value;
  Tensor output;            ///< of the forward pass
  Tensor logsumexp;         ///< of the forward pass
  Tensor grad_output;       ///< [B, *layout, H, E]
  Tensor grad_logsumexp;    ///< [B, *layout, H], dtype of logsumexp; absent means zero
  Tensor grad_query;        ///< written
  Tensor grad_key;          ///< written
  Tensor grad_value;        ///< written
  Tensor grad_extra_key;    ///< written; absent when N is 0
  Tensor grad_extra_value;  ///< written; absent when N is 0
};

/// The `Problem::alignment` of the tensors that a pass reads in tiles: query, key, value and extra ones, and the
/// gradient of the output. Absent ones do not count. The last dimension, whose size the problem knows, does not either.
VICINAL_API std::int64_t alignment_of(const ForwardTensors& tensors) noexcept;
VICINAL_API std::int64_t alignment_of(const BackwardTensors& tensors) noexcept;

/// Where a plan runs.
struct Execution {
  void* workspace = nullptr;  ///< plan.workspace_bytes bytes, 64-byte aligned, on the plan's device
  std::size_t workspace_bytes = 0;
  int threads = 0;         ///< CPU: 0 means as many as OpenMP would use
  void* stream = nullptr;  ///< CUDA: a cudaStream_t
};

/// Checks every tensor against the plan, then computes. On any error nothing is written.
/// Throws `Error` (invalid_argument: a shape, dtype, device or workspace does not match; system: the device failed).
VICINAL_API void run(const Plan& plan, const ForwardTensors& tensors, const Execution& execution = {});
VICINAL_API void run(const Plan& plan, const BackwardTensors& tensors, const Execution& execution = {});

}  // namespace vicinal
