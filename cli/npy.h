#pragma once

// Arrays in NumPy's .npy files, versions 1.0 to 3.0, little endian.

#include <string>

#include "bench/array.h"

namespace vicinal::cli {

using bench::Array;

/// Reads float64, float32 or float16 in C or Fortran order; the latter is transposed to C order.
/// Throws `Error`: system when the file cannot be read, invalid_argument when it holds something else.
Array read_npy(const std::string& path);

/// Writes fp64, fp32 or fp16; NumPy has no bf16. Throws `Error` (system) when the file cannot be written.
void write_npy(const std::string& path, const Array& array);

}  // namespace vicinal::cli
