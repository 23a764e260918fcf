#include "cuda/devices.h"

namespace vicinal::cuda {

bool built() { return false; }

int compute_capability_major(int) { return 0; }

std::vector<DeviceInfo> devices() { return {}; }

FewMultiprocessors::FewMultiprocessors(int) {}
FewMultiprocessors::~FewMultiprocessors() = default;
int FewMultiprocessors::of(int count) { return count; }

}  // namespace vicinal::cuda
