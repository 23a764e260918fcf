#include "cuda/devices.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>

#include "plan/rehearsal.h"

namespace vicinal::cuda {
namespace {

/// Once for a process, where a device is first found: starting the driver has just taken milliseconds, a rehearsal
/// takes a few tenths of one. It looks for the device too, so it is marked as begun before.
void rehearse_once(int ordinal) {
  static std::atomic_flag begun;
  if (!begun.test_and_set()) rehearse_plans({DeviceType::cuda, ordinal});
}

std::atomic<int> most_multiprocessors{kAllMultiprocessors};

}  // namespace

void use_multiprocessors(int most) { most_multiprocessors = most; }

int used_multiprocessors(int count) { return std::min(count, most_multiprocessors.load()); }

bool built() { return true; }

int compute_capability_major(int ordinal) {
  int major = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal) != cudaSuccess) {
    cudaGetLastError();  // no error of a later launch
    return 0;
  }
  rehearse_once(ordinal);
  return major;
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
