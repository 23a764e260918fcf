#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardBf16Dim64x3 = launch_forward<ForwardConfig<Bfloat, 64, 3>>;

}  // namespace vicinal::cuda::sm90
