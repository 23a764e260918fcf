#include "cuda/naive/dispatch.h"
#include "cuda/naive/execute.cuh"

namespace vicinal::cuda::naive {

const Operators kFp64Operators = Dispatch<DeviceExecutor, double>::operators();

}  // namespace vicinal::cuda::naive
