#include "cuda/devices.h"

#include <cuda_runtime_api.h>

namespace vicinal::cuda {

bool built() { return true; }

int compute_capability_major(int ordinal) {
  int major = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal) == cudaSuccess) return major;
  cudaGetLastError();  // no error of a later launch
  return 0;
}

std::vector<DeviceInfo> devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};  // no driver, or one older than this runtime

  std::vector<DeviceInfo> found;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, ordinal) != cudaSuccess) return {};
    found.push_back({properties.name, properties.major, properties.minor, properties.totalGlobalMem,
                     properties.multiProcessorCount, static_cast<std::size_t>(properties.l2CacheSize)});
  }
  return found;
}

}  // namespace vicinal::cuda
