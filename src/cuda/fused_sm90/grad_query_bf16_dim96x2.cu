#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradQueryBf16Dim96x2 = launch_grad_query<Bfloat, 96, 2>;

}  // namespace vicinal::cuda::sm90
