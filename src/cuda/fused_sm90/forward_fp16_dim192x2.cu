#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim192x2 = launch_forward<ForwardConfig<Half, 192, 2>>;

}  // namespace vicinal::cuda::sm90
