#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim32 = launch_forward<ForwardConfig<Half, 32>>;

}  // namespace vicinal::cuda::sm90
