#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardPairsFp16Dim32x2 = launch_forward_pairs<Half, 32, 2>;

}  // namespace vicinal::cuda::sm90
