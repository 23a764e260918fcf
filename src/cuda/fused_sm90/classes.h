#pragma once

// The sizes that the Hopper kernels are compiled for. Everything else about a problem is data.

#include <array>
#include <cstdint>

namespace vicinal::cuda::sm90 {

/// Query rows of a warpgroup's matrix product.
inline constexpr int kWarpgroupRows = 64;
/// Elements of 16 bits in a row of 128 bytes of shared memory: a tile is kept in chunks of that many columns.
inline constexpr int kChunk = 64;

/// One size of the forward kernel.
struct ForwardClass {
  int dim;           ///< the largest head dim and value dim it takes
  int warpgroups;    ///< of consumers, each with a box of at most kWarpgroupRows queries
  int columns;       ///< keys of a tile
  int stages;        ///< key tiles, and value tiles, in flight
  int query_stages;  ///< query tiles in flight
};

inline constexpr std::array kForwardClasses{
    ForwardClass{32, 2, 128, 4, 2},  ForwardClass{64, 2, 128, 4, 2}, ForwardClass{96, 2, 128, 2, 2},
    ForwardClass{128, 2, 128, 2, 2}, ForwardClass{192, 2, 96, 2, 1}, ForwardClass{256, 2, 64, 2, 1},
};

/// The index of the smallest class that takes a head dim, and a value dim, of `dim`; the number of classes if none does.
constexpr std::size_t forward_class_of(std::int64_t dim) {
  std::size_t index = 0;
  while (index < kForwardClasses.size() && kForwardClasses[index].dim < dim) ++index;
  return index;
}

}  // namespace vicinal::cuda::sm90
