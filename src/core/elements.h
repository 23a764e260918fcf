#pragma once

// Elements of any dtype as float64 or float32, a contiguous run at a time.

#include <cstdint>
#include <span>

#include "vicinal/tensor.h"

namespace vicinal {

/// Reads values.size() elements of `dtype`, the first at index `offset` of `data`.
void read_elements(const void* data, DType dtype, std::int64_t offset, std::span<double> values);
void read_elements(const void* data, DType dtype, std::int64_t offset, std::span<float> values);

/// Writes them, rounded to nearest.
void write_elements(void* data, DType dtype, std::int64_t offset, std::span<const double> values);
void write_elements(void* data, DType dtype, std::int64_t offset, std::span<const float> values);

/// The value that `dtype` stores for `value`.
double rounded_to(DType dtype, double value);

}  // namespace vicinal
