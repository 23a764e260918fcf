#pragma once

// Arrays that own their memory: what the command line reads, computes and measures on.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vicinal/tensor.h"

namespace vicinal::bench {

/// Zeroed CPU memory that begins on a cache line.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes) : lines_((bytes + sizeof(Line) - 1) / sizeof(Line)), bytes_(bytes) {}

  [[nodiscard]] std::size_t size() const { return bytes_; }
  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(lines_.data()); }
  [[nodiscard]] const std::byte* data() const { return reinterpret_cast<const std::byte*>(lines_.data()); }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
  std::size_t bytes_ = 0;
};

/// An array on the CPU in C order: the last dimension is contiguous.
struct Array {
  std::vector<std::int64_t> shape;
  DType dtype = DType::fp32;
  Buffer memory;

  Array() = default;
  /// Elements are zero. Throws std::bad_alloc or std::length_error where the memory cannot be had.
  Array(std::vector<std::int64_t> shape, DType dtype);

  [[nodiscard]] std::int64_t elements() const;
  /// This array's memory as a tensor; absent when there are no dimensions. Requires at most kMaxTensorRank of them.
  [[nodiscard]] Tensor tensor() { return contiguous(memory.data(), shape, dtype); }
  /// The same values, rounded to another dtype.
  [[nodiscard]] Array as(DType other) const;
};

/// Fills with independent values, uniform with mean 0 and variance 1, the same for the same seed.
void fill_random(Array& array, std::uint64_t seed, int threads);

}  // namespace vicinal::bench
