#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardBf16Dim64x1 = launch_forward<Bfloat, 64, 1>;

}  // namespace vicinal::cuda::sm90
