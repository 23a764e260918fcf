#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradKeyValueFp16Dim128x2 = launch_over_keys<Half, Pass::grad_key_value, 128, 2>;

}  // namespace vicinal::cuda::sm90
