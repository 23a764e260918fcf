#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim256 = launch_forward<ForwardConfig<Half, 256>>;

}  // namespace vicinal::cuda::sm90
