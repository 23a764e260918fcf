#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardFp16Dim192x2 = launch_forward<Half, 192, 2>;

}  // namespace vicinal::cuda::sm90
