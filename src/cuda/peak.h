#pragma once

// What a CUDA device does at best.

namespace vicinal::cuda {

struct Peak {
  double bytes_per_second = 0;         ///< of a copy much larger than the caches, reads and writes both counted
  double matrix_multiply_adds_16 = 0;  ///< per second: fp16 matrix products with fp32 sums, by mma.sync
  double multiply_adds_32 = 0;         ///< per second: fp32 fused multiply-adds
  double multiply_adds_64 = 0;         ///< per second: the same in fp64
};

/// Measures a device, in a fraction of a second. Throws `Error`: system where CUDA reports a failure, unsupported in a
/// build without CUDA.
Peak measure_peak(int device);

}  // namespace vicinal::cuda
