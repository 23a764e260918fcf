#include "cuda/naive/execute.cuh"
#include "cuda/naive/launch_weights.h"

namespace vicinal::cuda::naive {

template struct WeightLaunches<DeviceExecutor, double>;

}  // namespace vicinal::cuda::naive
