#include "cuda/naive/dispatch.h"
#include "cuda/naive/execute.cuh"

namespace vicinal::cuda::naive {

const Operators kBf16Operators = Dispatch<DeviceExecutor, Bfloat>::operators();

}  // namespace vicinal::cuda::naive
