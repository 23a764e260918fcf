#pragma once

// The fused forward pass on Hopper, for code that includes no CUDA header.

#include "core/view.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {

/// Launches. Takes what `forward_supports` (planner.h) allows, tiles that `forward_accepts` allows, and any strides.
void forward(const Problem& grid, const Tiling& tiling, const ForwardViews& tensors, const Execution& execution);

/// The same for `forward_pairs_supports` and `forward_pairs_accepts`. Heads that do not follow each other in memory are
/// taken one at a time, as `forward` does.
void forward_pairs(const Problem& grid, const Tiling& tiling, const ForwardViews& tensors, const Execution& execution);

}  // namespace vicinal::cuda::sm90
