#pragma once

// How addresses and distances in memory are aligned, all of them together.

#include <bit>
#include <cstddef>
#include <cstdint>

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

}  // namespace vicinal
