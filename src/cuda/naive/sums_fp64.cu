#include "cuda/naive/execute.cuh"
#include "cuda/naive/launch_sums.h"

namespace vicinal::cuda::naive {

template struct SumLaunches<DeviceExecutor, double>;

}  // namespace vicinal::cuda::naive
