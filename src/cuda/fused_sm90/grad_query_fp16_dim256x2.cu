#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradQueryFp16Dim256x2 = launch_grad_query<Half, 256, 2>;

}  // namespace vicinal::cuda::sm90
