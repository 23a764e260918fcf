#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradQueryFp16Dim64x1 = launch_grad_query<Half, 64, 1>;

}  // namespace vicinal::cuda::sm90
