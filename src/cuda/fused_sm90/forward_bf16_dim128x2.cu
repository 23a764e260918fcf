#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardBf16Dim128x2 = launch_forward<Bfloat, 128, 2>;

}  // namespace vicinal::cuda::sm90
