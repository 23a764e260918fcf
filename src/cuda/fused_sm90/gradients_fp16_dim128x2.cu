#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradientsFp16Dim128x2 = launch_gradients<Half, 128, 2>;

}  // namespace vicinal::cuda::sm90
