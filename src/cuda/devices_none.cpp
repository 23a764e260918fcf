#include "cuda/devices.h"

namespace vicinal::cuda {

bool built() { return false; }

int compute_capability_major(int) { return 0; }

std::vector<DeviceInfo> devices() { return {}; }

}  // namespace vicinal::cuda
