#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardFp16Dim32x1 = launch_forward<Half, 32, 1>;

}  // namespace vicinal::cuda::sm90
