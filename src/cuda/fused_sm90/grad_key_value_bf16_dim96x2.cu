#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradKeyValueBf16Dim96x2 = launch_over_keys<Bfloat, Pass::grad_key_value, 96, 2>;

}  // namespace vicinal::cuda::sm90
