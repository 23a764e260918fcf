#include "cuda/naive/dispatch.h"
#include "cuda/naive/execute.cuh"

namespace vicinal::cuda::naive {

const Operators kFp16Operators = Dispatch<DeviceExecutor, Half>::operators();

}  // namespace vicinal::cuda::naive
