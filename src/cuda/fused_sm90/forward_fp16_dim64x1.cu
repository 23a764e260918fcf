#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim64x1 = launch_forward<ForwardConfig<Half, 64, 1>>;

}  // namespace vicinal::cuda::sm90
