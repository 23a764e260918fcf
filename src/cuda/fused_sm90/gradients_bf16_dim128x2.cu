#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradientsBf16Dim128x2 = launch_gradients<Bfloat, 128, 2>;

}  // namespace vicinal::cuda::sm90
