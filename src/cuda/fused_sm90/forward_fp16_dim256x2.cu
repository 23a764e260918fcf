#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardFp16Dim256x2 = launch_forward<Half, 256, 2>;

}  // namespace vicinal::cuda::sm90
