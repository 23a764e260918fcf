#pragma once

// Division by a number that is known when a kernel is launched: a multiplication and a shift where indices have 32
// bits. Host and device.

#include <cstdint>

#include "core/window.h"

namespace vicinal::cuda {

/// Divides n >= 0. `a / divisor` and `a % divisor` read as with plain integers.
template <class Index>
class Divisor {
 public:
  Divisor() = default;
  /// Requires value >= 1.
  explicit constexpr Divisor(std::int64_t value) : value_(static_cast<Index>(value)) {}

  VICINAL_HOST_DEVICE constexpr operator Index() const { return value_; }
  VICINAL_HOST_DEVICE friend constexpr Index operator/(Index n, const Divisor& d) { return n / d.value_; }
  VICINAL_HOST_DEVICE friend constexpr Index operator%(Index n, const Divisor& d) { return n % d.value_; }

 private:
  Index value_ = 1;
};

/// Granlund and Montgomery 1994, "Division by invariant integers using multiplication", figure 4.1: with
/// shift = ceil(log2 d) and multiplier = floor(2^32 (2^shift - d) / d) + 1, n / d = (high half of multiplier * n, plus
/// n)
/// >> shift. The sum fits 32 bits because n < 2^31.
template <>
class Divisor<std::int32_t> {
 public:
  Divisor() = default;
  explicit constexpr Divisor(std::int64_t value) : value_(static_cast<std::int32_t>(value)) {
    while ((std::int64_t{1} << shift_) < value) ++shift_;
    const std::int64_t excess = (std::int64_t{1} << shift_) - value;
    multiplier_ = static_cast<std::uint32_t>((excess << 32) / value + 1);
  }

  VICINAL_HOST_DEVICE constexpr operator std::int32_t() const { return value_; }
  VICINAL_HOST_DEVICE friend constexpr std::int32_t operator/(std::int32_t n, const Divisor& d) {
    const auto dividend = static_cast<std::uint32_t>(n);
    const auto high = static_cast<std::uint32_t>((std::uint64_t{dividend} * d.multiplier_) >> 32);
    return static_cast<std::int32_t>((high + dividend) >> d.shift_);
  }
  VICINAL_HOST_DEVICE friend constexpr std::int32_t operator%(std::int32_t n, const Divisor& d) {
    return n - n / d * d.value_;
  }

 private:
  std::int32_t value_ = 1;
  std::uint32_t multiplier_ = 1;
  std::uint32_t shift_ = 0;
};

}  // namespace vicinal::cuda
