#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradKeyValueBf16Dim64x1 = launch_over_keys<Bfloat, Pass::grad_key_value, 64, 1>;

}  // namespace vicinal::cuda::sm90
