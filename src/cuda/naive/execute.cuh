#pragma once

// Runs the naive kernels on a GPU: grid-stride loops over items, each by a thread, a warp or a block.

#include "cuda/common/launch.cuh"
#include "cuda/naive/types.h"

namespace vicinal::cuda::naive {

inline constexpr int kThreads = 256;
inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

/// The lanes of a warp; each gets the result of a sum or maximum.
class WarpTeam {
 public:
  __device__ int rank() const { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ int size() const { return kWarp; }

  template <class T>
  __device__ T sum(T x) const {
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
    return x;
  }

  template <class T>
  __device__ T max(T x) const {
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
      const T other = __shfl_xor_sync(kAllLanes, x, lanes);
      x = other > x ? other : x;
    }
    return x;
  }
};

/// The threads of a block; the first one gets the result of a sum.
class BlockTeam {
 public:
  __device__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ int size() const { return kThreads; }

  template <class T>
  __device__ T sum(T x) const {
    __shared__ T of_warps[kThreads / kWarp];
    x = WarpTeam().sum(x);
    __syncthreads();  // until the sums of the last item are read
    if (rank() % kWarp == 0) of_warps[rank() / kWarp] = x;
    __syncthreads();
    if (rank() >= kWarp) return x;
    return WarpTeam().sum(rank() < kThreads / kWarp ? of_warps[rank()] : T{0});
  }
};

template <class Work>
__global__ void __launch_bounds__(kThreads) by_threads(const __grid_constant__ Work work) {
  using Index = typename Work::Index;
  const Index step = static_cast<Index>(gridDim.x) * kThreads;
  for (Index i = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x); i < work.items; i += step)
    work(i);
}

template <class Work>
__global__ void __launch_bounds__(kThreads) by_warps(const __grid_constant__ Work work) {
  using Index = typename Work::Index;
  constexpr int kWarps = kThreads / kWarp;
  const Index step = static_cast<Index>(gridDim.x) * kWarps;
  for (Index i = static_cast<Index>(blockIdx.x) * kWarps + static_cast<Index>(threadIdx.x) / kWarp; i < work.items;
       i += step) {
    work(i, WarpTeam());
  }
}

template <class Work>
__global__ void __launch_bounds__(kThreads) by_blocks(const __grid_constant__ Work work) {
  using Index = typename Work::Index;
  for (Index i = static_cast<Index>(blockIdx.x); i < work.items; i += static_cast<Index>(gridDim.x))
    work(i, BlockTeam());
}

template <class Work>
__global__ void __launch_bounds__(kThreads) by_tiles(const __grid_constant__ Work work) {
  using Index = typename Work::Index;
  extern __shared__ uint4 shared_memory[];
  auto* shared = reinterpret_cast<typename Work::Element*>(shared_memory);
  const int thread = static_cast<int>(threadIdx.x);
  for (Index i = static_cast<Index>(blockIdx.x); i < work.items; i += static_cast<Index>(gridDim.x)) {
    const typename Work::Tile tile = work.tile_at(i);
    if (tile.empty()) continue;
    work.copy(tile, thread, kThreads, shared);
    __syncthreads();
    work.compute(tile, thread, kThreads, shared);
    __syncthreads();
  }
}

class DeviceExecutor {
 public:
  DeviceExecutor(const Problem& problem, void* stream) : launcher_(problem, stream) {}

  template <class Work>
  void run(const char* name, const Work& work) const {
    if constexpr (Work::kTeam == Team::thread) {
      launch(name, by_threads<Work>, kThreads, work);
    } else if constexpr (Work::kTeam == Team::warp) {
      launch(name, by_warps<Work>, kThreads / kWarp, work);
    } else {
      launch(name, by_blocks<Work>, 1, work);
    }
  }

  template <class Work>
  void run_tiles(const char* name, const Work& work) const {
    launcher_.launch(name, by_tiles<Work>, launcher_.blocks(work.items, kThreads), kThreads, work.shared_bytes, work);
  }

 private:
  template <class Work>
  void launch(const char* name, void (*kernel)(Work), std::int64_t items_of_block, const Work& work) const {
    const std::int64_t needed = (static_cast<std::int64_t>(work.items) + items_of_block - 1) / items_of_block;
    launcher_.launch(name, kernel, launcher_.blocks(needed, kThreads), kThreads, 0, work);
  }

  Launcher launcher_;
};

}  // namespace vicinal::cuda::naive
