#pragma once

// The fused backward pass on Hopper, in two ways, for code that includes no CUDA header.

#include "core/view.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {

/// Launches. Takes what `backward_supports` (planner.h) allows, tiles that `backward_accepts` allows, any strides, and
/// `backward_workspace` (workspace_views.h).
/// Every gradient is summed by one warpgroup in a fixed order: the same bits in every run, on any number of
/// multiprocessors.
void backward(const Problem& grid, const Tiling& tiling, const BackwardViews& tensors, const Execution& execution);

/// Launches. Takes what `backward_one_pass_supports` allows, in the same way. Gradients of queries are summed in memory
/// in whichever order their parts come, so they differ in their last bits from run to run.
void backward_one_pass(const Problem& grid, const Tiling& tiling, const BackwardViews& tensors,
                       const Execution& execution);

}  // namespace vicinal::cuda::sm90
