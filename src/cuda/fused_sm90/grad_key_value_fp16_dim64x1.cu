#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradKeyValueFp16Dim64x1 = launch_over_keys<Half, Pass::grad_key_value, 64, 1>;

}  // namespace vicinal::cuda::sm90
