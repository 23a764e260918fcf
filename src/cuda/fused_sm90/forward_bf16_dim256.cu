#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardBf16Dim256 = launch_forward<ForwardConfig<Bfloat, 256>>;

}  // namespace vicinal::cuda::sm90
