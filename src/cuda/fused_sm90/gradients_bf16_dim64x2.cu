#include "cuda/fused_sm90/backward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kGradientsBf16Dim64x2 = launch_gradients<Bfloat, 64, 2>;

}  // namespace vicinal::cuda::sm90
