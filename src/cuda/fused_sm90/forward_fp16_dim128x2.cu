#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardFp16Dim128x2 = launch_forward<Half, 128, 2>;

}  // namespace vicinal::cuda::sm90
