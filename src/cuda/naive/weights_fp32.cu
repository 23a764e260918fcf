#include "cuda/naive/execute.cuh"
#include "cuda/naive/launch_weights.h"

namespace vicinal::cuda::naive {

template struct WeightLaunches<DeviceExecutor, float>;

}  // namespace vicinal::cuda::naive
