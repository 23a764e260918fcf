#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim64x3 = launch_forward<ForwardConfig<Half, 64, 3>>;

}  // namespace vicinal::cuda::sm90
