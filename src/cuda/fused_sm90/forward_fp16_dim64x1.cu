#include "cuda/fused_sm90/forward.cuh"

namespace vicinal::cuda::sm90 {

const Launch kForwardFp16Dim64x1 = launch_forward<Half, 64, 1>;

}  // namespace vicinal::cuda::sm90
