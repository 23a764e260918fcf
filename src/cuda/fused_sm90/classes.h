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
  int blocks;        ///< that share a multiprocessor

  friend bool operator==(const ForwardClass&, const ForwardClass&) = default;
};

/// By head dim: two warpgroups that share large key tiles, and blocks of one with small tiles, several of which wait at
/// different times.
inline constexpr std::array kForwardClasses{
    ForwardClass{32, 1, 64, 2, 1, 4},  ForwardClass{32, 2, 128, 4, 2, 1}, ForwardClass{64, 1, 64, 2, 2, 3},
    ForwardClass{64, 2, 128, 4, 2, 1}, ForwardClass{64, 3, 96, 4, 2, 1}, ForwardClass{96, 2, 128, 2, 2, 1}, ForwardClass{128, 2, 128, 2, 2, 1},
    ForwardClass{192, 2, 96, 2, 1, 1}, ForwardClass{256, 2, 64, 2, 1, 1},
};

/// The smallest head dim of a class that takes a head dim, and a value dim, of `dim`; 0 where none does.
constexpr int class_dim(std::int64_t dim) {
  for (const ForwardClass& size : kForwardClasses) {
    if (dim <= size.dim) return size.dim;
  }
  return 0;
}

/// The index of a class; the number of classes where there is none.
constexpr std::size_t forward_class(int dim, std::int64_t warpgroups) {
  std::size_t index = 0;
  while (index < kForwardClasses.size() &&
         (kForwardClasses[index].dim != dim || kForwardClasses[index].warpgroups != warpgroups)) {
    ++index;
  }
  return index;
}

}  // namespace vicinal::cuda::sm90
