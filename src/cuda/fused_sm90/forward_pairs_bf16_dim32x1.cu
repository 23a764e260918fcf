#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardPairsBf16Dim32x1 = launch_forward_pairs<Bfloat, 32, 1>;

}  // namespace vicinal::cuda::sm90
