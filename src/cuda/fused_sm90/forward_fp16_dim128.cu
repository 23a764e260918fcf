#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim128 = launch_forward<ForwardConfig<Half, 128>>;

}  // namespace vicinal::cuda::sm90
