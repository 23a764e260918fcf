#pragma once

// How kernels reach the GPU: on the device that owns the tensors, on the caller's stream, every launch checked. Nothing
// here allocates or waits, so calls can be captured in a CUDA graph; nothing is shared, so threads need no locks.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "cuda/devices.h"
#include "vicinal/error.h"
#include "vicinal/problem.h"

namespace vicinal::cuda {

/// Throws `Error` (system) that names what failed, the problem and the reason CUDA gives.
inline void check(cudaError_t status, const std::string& what, const Problem& problem) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the caller hears of it here, not again in a later call
  throw Error(ErrorKind::system, what + " failed: " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) +
                                     "), in " + to_string(problem));
}

/// Makes a device current for as long as it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(const Problem& problem) {
    check(cudaGetDevice(&before_), "asking for the current device", problem);
    if (before_ == problem.device.index) return;
    check(cudaSetDevice(problem.device.index), "choosing device " + std::to_string(problem.device.index), problem);
    changed_ = true;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

/// Where the kernels of one call run.
class Launcher {
 public:
  Launcher(const Problem& problem, void* stream)
      : problem_(problem), device_(problem), stream_(static_cast<cudaStream_t>(stream)) {
    check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, problem.device.index),
          "asking for the number of multiprocessors", problem);
    multiprocessors_ = used_multiprocessors(multiprocessors_);
  }

  /// Blocks for `work` blocks' worth of items that blocks take in turns: a few rounds of what the device holds at once,
  /// so that blocks that end early make room for others.
  [[nodiscard]] unsigned blocks(std::int64_t work, int threads) const {
    constexpr std::int64_t kRounds = 8;
    constexpr std::int64_t kThreadsOfMultiprocessor = 2048;
    const std::int64_t most = kRounds * multiprocessors_ * (kThreadsOfMultiprocessor / threads);
    return static_cast<unsigned>(std::clamp<std::int64_t>(work, 1, most));
  }

  /// One block for every place on the device, `per_multiprocessor` of them on each, but no more than items of work,
  /// each of which takes a cluster of so many blocks.
  [[nodiscard]] unsigned persistent_blocks(std::int64_t items, int per_multiprocessor, int cluster) const {
    const int clusters = per_multiprocessor * multiprocessors_ / cluster;
    return static_cast<unsigned>(std::clamp<std::int64_t>(items, 1, clusters) * cluster);
  }

  /// Lets a kernel use more dynamic shared memory than any may without asking.
  template <class... Parameters>
  void allow_shared_memory(const char* name, void (*kernel)(Parameters...), std::size_t bytes) const {
    const cudaError_t status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (status != cudaSuccess) check(status, std::string("asking for shared memory of ") + name, problem_);
  }

  /// Fills memory with zeros.
  void clear(const char* name, void* memory, std::size_t bytes) const {
    const cudaError_t status = cudaMemsetAsync(memory, 0, bytes, stream_);
    if (status != cudaSuccess) check(status, std::string("clearing ") + name, problem_);
  }

  template <class... Parameters, class... Arguments>
  void launch(const char* name, void (*kernel)(Parameters...), unsigned blocks, int threads, std::size_t shared_bytes,
              const Arguments&... arguments) const {
    launch_clusters(name, kernel, blocks, threads, shared_bytes, 1, arguments...);
  }

  /// With every `cluster` blocks together; it divides their number.
  template <class... Parameters, class... Arguments>
  void launch_clusters(const char* name, void (*kernel)(Parameters...), unsigned blocks, int threads,
                       std::size_t shared_bytes, int cluster, const Arguments&... arguments) const {
    cudaLaunchAttribute of_cluster{};
    of_cluster.id = cudaLaunchAttributeClusterDimension;
    of_cluster.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream_;
    config.attrs = &of_cluster;
    config.numAttrs = cluster > 1 ? 1 : 0;  // before Hopper there are none
    const cudaError_t status = cudaLaunchKernelEx(&config, kernel, arguments...);
    if (status != cudaSuccess) check(status, std::string("launch of ") + name, problem_);
  }

 private:
  const Problem& problem_;
  DeviceGuard device_;
  cudaStream_t stream_;
  int multiprocessors_ = 0;
};

}  // namespace vicinal::cuda
