#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradValueBf16Dim256x2 = launch_over_keys<Bfloat, Pass::grad_value, 256, 2>;

}  // namespace vicinal::cuda::sm90
