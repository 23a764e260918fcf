#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const ForwardLaunch kForwardFp16Dim96 = launch_forward<ForwardConfig<Half, 96>>;

}  // namespace vicinal::cuda::sm90
