#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradKeyFp16Dim192x2 = launch_over_keys<Half, Pass::grad_key, 192, 2>;

}  // namespace vicinal::cuda::sm90
