#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradValueBf16Dim192x2 = launch_over_keys<Bfloat, Pass::grad_value, 192, 2>;

}  // namespace vicinal::cuda::sm90
