#pragma once

// delta = rowsum(dO O) - dLSE, which the fused Hopper backward passes subtract from dP.

#include "core/view.h"

namespace vicinal::cuda::sm90 {

/// [B, H, X, Y, Z] in a workspace, dense.
View delta_view(const Problem& grid, void* workspace);

void compute_delta(const Problem& grid, const BackwardViews& tensors, const View& delta, void* stream);

}  // namespace vicinal::cuda::sm90
