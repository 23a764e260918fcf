#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardPairsBf16Dim32x2 = launch_forward_pairs<Bfloat, 32, 2>;

}  // namespace vicinal::cuda::sm90
