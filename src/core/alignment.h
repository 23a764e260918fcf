#pragma once

// How addresses and distances in memory are aligned, all of them together, and which distances the copy engine of GPUs
// takes besides.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "vicinal/problem.h"

namespace vicinal {

/// The largest power of two, of bytes and at most `kMostAlignment`, that divides all that was added.
class Alignment {
 public:
  void add(const void* address) { bits_ |= reinterpret_cast<std::uintptr_t>(address); }
  /// That many elements of that many bytes. Unsigned, since nobody may have checked whether the product overflows.
  constexpr void add(std::int64_t elements, std::size_t size) {
    bits_ |= static_cast<std::uint64_t>(elements) * static_cast<std::uint64_t>(size);
  }

  [[nodiscard]] constexpr std::int64_t bytes() const { return std::int64_t{1} << std::countr_zero(bits_); }

 private:
  std::uint64_t bits_ = kMostAlignment;  // the lowest bit that is set is the alignment
};

/// Whether the copy engine takes a stride, of elements of that many bytes, of any dimension but the heads'.
constexpr bool copy_engine_takes_stride(std::int64_t stride, std::size_t size) {
  constexpr std::int64_t kMostBytes = (std::int64_t{1} << 40) - 1;
  // Nobody may have checked whether the product overflows.
  return stride >= 0 && stride <= kMostBytes && stride * static_cast<std::int64_t>(size) <= kMostBytes;
}

/// Whether it takes that of heads: it sees them one after another along one axis, whose elements it counts in 32 bits.
constexpr bool copy_engine_takes_heads(std::int64_t heads, std::int64_t stride, std::int64_t dim) {
  constexpr std::int64_t kMostElements = std::numeric_limits<std::int32_t>::max();
  const std::int64_t before_last = kMostElements - std::clamp<std::int64_t>(dim, 0, kMostElements);
  return stride >= 0 && (heads <= 1 || stride <= before_last / (heads - 1));
}

}  // namespace vicinal
