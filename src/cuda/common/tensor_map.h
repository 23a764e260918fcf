#pragma once

// Tensor maps: how the copy engine of Hopper and later (TMA) addresses boxes of a tensor in global memory.

#include <cuda.h>

#include <array>
#include <cstdint>

#include "vicinal/error.h"
#include "vicinal/tensor.h"

namespace vicinal::cuda {

/// A tensor of rank 5 and the box that one copy moves. Axis 0 is contiguous.
struct BoxedTensor {
  void* data = nullptr;  ///< a multiple of 16 bytes
  DType dtype = DType::fp16;
  std::array<std::int64_t, 5> extent{};    ///< elements, each at most 2^32
  std::array<std::int64_t, 4> stride{};    ///< of axes 1 to 4, in elements; non-negative multiples of 16 bytes
  std::array<int, 5> box{};                ///< elements of the box, axis 0 at most 128 bytes, others at most 256
  std::array<int, 5> step{1, 1, 1, 1, 1};  ///< along each axis every step-th element, at most 8
};

/// The bytes to which addresses and strides must be aligned.
inline constexpr std::int64_t kTensorMapAlignment = 16;

/// The map of a tensor whose boxes lie in shared memory in rows of 128 bytes (shorter ones leave the rest of their row
/// alone) with the 128-byte swizzle. Throws `Error` (system) where the driver refuses.
CUtensorMap tensor_map(const BoxedTensor& tensor);

}  // namespace vicinal::cuda
