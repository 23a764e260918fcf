#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim32x1 = launch_forward<ForwardConfig<Half, 32, 1>>;

}  // namespace vicinal::cuda::sm90
