#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardPairsFp16Dim32x1 = launch_forward_pairs<Half, 32, 1>;

}  // namespace vicinal::cuda::sm90
