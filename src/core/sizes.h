#pragma once

// How large tensors may be.

#include <cstdint>
#include <initializer_list>
#include <limits>

namespace vicinal {

/// Byte offsets of every tensor must fit in int64_t, whatever the dtype.
inline constexpr std::int64_t kMostElements = std::numeric_limits<std::int64_t>::max() / 8;

/// Whether a tensor of these extents has at most kMostElements elements. Requires every factor to be positive.
constexpr bool product_fits(std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  for (const std::int64_t factor : factors) {
    if (factor > kMostElements / product) return false;
    product *= factor;
  }
  return true;
}

}  // namespace vicinal
