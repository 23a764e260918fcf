#include "cuda/naive/execute.cuh"
#include "cuda/naive/launch_sums.h"

namespace vicinal::cuda::naive {

template struct SumLaunches<DeviceExecutor, Half>;

}  // namespace vicinal::cuda::naive
