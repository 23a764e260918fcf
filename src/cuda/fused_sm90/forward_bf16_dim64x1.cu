#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardBf16Dim64x1 = launch_forward<ForwardConfig<Bfloat, 64, 1>>;

}  // namespace vicinal::cuda::sm90
