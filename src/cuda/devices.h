#pragma once

// The CUDA devices of this machine, for code that includes no CUDA header. A build without CUDA sees none.

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace vicinal::cuda {

struct DeviceInfo {
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  std::size_t memory_bytes = 0;
  int multiprocessors = 0;
  std::size_t cache_bytes = 0;  ///< of the second level, shared by all multiprocessors
};

/// Whether this build holds CUDA code.
bool built();

/// The first number of a device's compute capability, such as 9 for Hopper; 0 where there is no such device.
int compute_capability_major(int ordinal);

/// In order of their ordinals; empty where there is no device, no driver or no CUDA in this build.
std::vector<DeviceInfo> devices();

constexpr int kAllMultiprocessors = std::numeric_limits<int>::max();
/// For tests: from now on kernels of this process have blocks for at most so many multiprocessors, as on a smaller
/// device.
void use_multiprocessors(int most);
/// How many those are of the `count` of a device.
int used_multiprocessors(int count);

}  // namespace vicinal::cuda
