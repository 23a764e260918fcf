#pragma once

// The sizes that the Hopper kernels are compiled for. Everything else about a problem is data.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vicinal::cuda::sm90 {

/// Rows of a warpgroup's matrix product: the tokens that it keeps, queries mostly.
inline constexpr int kWarpgroupRows = 64;
/// Elements of 16 bits in a row of 128 bytes of shared memory: a tile is kept in chunks of that many columns.
inline constexpr int kChunk = 64;

/// One size of a kernel.
struct KernelClass {
  int dim;         ///< the largest head dim and value dim it takes
  int warpgroups;  ///< of consumers, each with a box of at most kWarpgroupRows tokens
  int columns;     ///< tokens of a tile that passes by, keys mostly
  int stages;      ///< such tiles in flight, for each of the two tensors
  int row_stages;  ///< boxes in flight
  int blocks;      ///< that share a multiprocessor

  friend bool operator==(const KernelClass&, const KernelClass&) = default;
};

/// By head dim: two warpgroups that share large key tiles, and blocks of one with small tiles, several of which wait at
/// different times.
inline constexpr std::array kForwardClasses{
    KernelClass{32, 1, 64, 2, 1, 4},  KernelClass{32, 2, 128, 4, 2, 1}, KernelClass{64, 1, 64, 2, 2, 3},
    KernelClass{64, 2, 128, 4, 2, 1}, KernelClass{96, 2, 128, 2, 2, 1}, KernelClass{128, 2, 128, 2, 2, 1},
    KernelClass{192, 2, 96, 2, 1, 1}, KernelClass{256, 2, 64, 2, 1, 1},
};

/// Of the forward kernel that takes two heads of head dim 32 at a time, which fill the rows of its tiles.
inline constexpr int kPairedHeads = 2;
inline constexpr std::array kForwardPairsClasses{
    KernelClass{32, 1, 64, 2, 2, 3},
    KernelClass{32, 2, 128, 4, 2, 1},
};
static_assert(kForwardPairsClasses.front().dim * kPairedHeads == kChunk);

/// Whether two blocks of a class may share column tiles (`TiledGrid::sharers`): where each has a multiprocessor to
/// itself and that is faster (docs/decisions/0082).
constexpr bool may_share_columns(const KernelClass& size) {
  return size.warpgroups == 2 && size.dim >= 64 && size.dim <= 128;
}

/// Of both passes of the backward kernels: over query boxes, and over key boxes. They keep two tensors of each box, and
/// two products of scores in registers.
inline constexpr std::array kBackwardClasses{
    KernelClass{32, 1, 64, 2, 1, 3},  KernelClass{64, 1, 64, 2, 1, 2},  KernelClass{64, 2, 64, 4, 2, 1},
    KernelClass{96, 2, 64, 2, 2, 1},  KernelClass{128, 2, 64, 2, 2, 1}, KernelClass{192, 2, 64, 2, 1, 1},
    KernelClass{256, 2, 32, 2, 1, 1},
};

/// Whether the pass over queries of a class has room for rows of the output, of which it makes delta; else a kernel of
/// its own does (docs/decisions/0086).
constexpr bool may_make_delta(const KernelClass& size) { return size.dim <= 64; }

/// Of the backward kernel that makes one pass, over key boxes. The product of a tile's gradients of scores with the
/// keys of both boxes is cut into blocks of 64 queries x 64 elements of the head dim, one for each warpgroup.
inline constexpr std::array kOnePassClasses{
    KernelClass{64, 2, 128, 2, 1, 1},
    KernelClass{128, 2, 64, 2, 1, 1},
};

/// Kernels are compiled for fp16 and bf16: as many as the budget of builds allows.
constexpr int kDTypesOfKernels = 2;
constexpr int backward_kernels() {
  int count = static_cast<int>(kOnePassClasses.size());
  for (const KernelClass& size : kBackwardClasses) count += size.dim <= 128 ? 2 : 3;  // dK and dV together, or not
  return kDTypesOfKernels * count;
}
static_assert(kDTypesOfKernels * (kForwardClasses.size() + kForwardPairsClasses.size()) <= 24);
static_assert(backward_kernels() <= 36);

/// The smallest head dim of a class that takes a head dim, and a value dim, of `dim`; 0 where none does.
constexpr int class_dim(std::span<const KernelClass> classes, std::int64_t dim) {
  for (const KernelClass& size : classes) {
    if (dim <= size.dim) return size.dim;
  }
  return 0;
}

/// The index of the class of exactly this head dim; the number of classes where there is none.
constexpr std::size_t class_index(std::span<const KernelClass> classes, int dim, std::int64_t warpgroups) {
  std::size_t index = 0;
  while (index < classes.size() && (classes[index].dim != dim || classes[index].warpgroups != warpgroups)) ++index;
  return index;
}

}  // namespace vicinal::cuda::sm90
