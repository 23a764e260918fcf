#pragma once

// What this machine can do at best, measured: the ruler that kernels are held against.

#include "vicinal/plan.h"

namespace vicinal::bench {

struct Roofline {
  double bytes_per_second = 0;             ///< of a copy much larger than the caches, reads and writes both counted
  double multiply_adds_per_second_16 = 0;  ///< of fp16: fp32 arithmetic on a CPU, matrix products on a GPU
  double multiply_adds_per_second_32 = 0;  ///< fp32 fused multiply-adds on all threads
  double multiply_adds_per_second_64 = 0;  ///< the same in fp64

  /// The rate that applies to a dtype.
  [[nodiscard]] double multiply_adds_per_second(DType dtype) const {
    return dtype == DType::fp64   ? multiply_adds_per_second_64
           : dtype == DType::fp32 ? multiply_adds_per_second_32
                                  : multiply_adds_per_second_16;
  }

  /// No kernel can be faster: the needed multiply-adds at the peak rate, or the bytes at the copy bandwidth.
  [[nodiscard]] double floor_seconds(const Cost& cost, DType dtype) const;
};

/// Measures the CPU, about a second. `threads` 0 means as many as OpenMP would use.
Roofline measure_cpu_roofline(int threads);

/// Measures a CUDA device. Matrix products are those that every GPU since Ampere has (mma.sync), which Hopper's own
/// exceed by up to a half.
Roofline measure_cuda_roofline(int device);

/// Bytes of the last-level cache: what inputs have to exceed to be cold.
std::size_t last_level_cache_bytes();

}  // namespace vicinal::bench
