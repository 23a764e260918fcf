#include "cuda/devices.h"

namespace vicinal::cuda {

bool built() { return false; }

int compute_capability_major(int) { return 0; }

std::vector<DeviceInfo> devices() { return {}; }

void use_multiprocessors(int) {}

int used_multiprocessors(int count) { return count; }

}  // namespace vicinal::cuda
