#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradQueryFp16Dim32x1 = launch_grad_query<Half, 32, 1>;

}  // namespace vicinal::cuda::sm90
