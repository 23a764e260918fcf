#pragma once

// Arrays that own their memory: what the command line reads, computes and measures on.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "vicinal/tensor.h"

namespace vicinal::bench {

/// Memory that begins on a cache line, or so many bytes behind one: zeroed on the CPU, uninitialised on a device.
class Buffer {
 public:
  Buffer() = default;
  /// Throws std::bad_alloc, or `Error` (system) for a device, where the memory cannot be had.
  explicit Buffer(std::size_t bytes, const Device& device = {}, std::size_t behind_line = 0);

  [[nodiscard]] std::size_t size() const { return bytes_; }
  [[nodiscard]] std::byte* data() { return const_cast<std::byte*>(std::as_const(*this).data()); }
  [[nodiscard]] const std::byte* data() const {
    return behind_line_ + (device_memory_ ? device_memory_.get() : reinterpret_cast<const std::byte*>(lines_.data()));
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
  std::shared_ptr<std::byte> device_memory_;
  std::size_t bytes_ = 0;
  std::size_t behind_line_ = 0;
};

/// An array in C order: the last dimension is contiguous.
struct Array {
  std::vector<std::int64_t> shape;
  DType dtype = DType::fp32;
  Device device;
  Buffer memory;

  Array() = default;
  /// Elements are those of a `Buffer`. Throws as it does, or std::length_error.
  Array(std::vector<std::int64_t> shape, DType dtype, const Device& device = {}, std::size_t behind_line = 0);

  [[nodiscard]] std::int64_t elements() const;
  /// This array's memory as a tensor; absent when there are no dimensions. Requires at most kMaxTensorRank of them.
  [[nodiscard]] Tensor tensor() { return contiguous(memory.data(), shape, dtype, device); }
  /// The same array on a device. Requires an array on the CPU or on that device.
  [[nodiscard]] Array copy_on(const Device& other, std::size_t behind_line = 0) const;
  /// The same values, rounded to another dtype. Requires an array on the CPU.
  [[nodiscard]] Array as(DType other) const;
};

/// Fills an array on the CPU with independent values, uniform with mean 0 and variance 1, the same for the same seed.
void fill_random(Array& array, std::uint64_t seed, int threads);

}  // namespace vicinal::bench
