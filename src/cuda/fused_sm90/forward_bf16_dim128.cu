#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardBf16Dim128 = launch_forward<ForwardConfig<Bfloat, 128>>;

}  // namespace vicinal::cuda::sm90
