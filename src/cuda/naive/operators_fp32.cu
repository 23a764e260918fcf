#include "cuda/naive/dispatch.h"
#include "cuda/naive/execute.cuh"

namespace vicinal::cuda::naive {

const Operators kFp32Operators = Dispatch<DeviceExecutor, float>::operators();

}  // namespace vicinal::cuda::naive
