#pragma once

// Attention composed of the unfused operators, with all weights in the workspace.

#include <cstddef>

#include "core/view.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal::cpu {

void run_naive_forward(const Problem& grid, const Tiling& tiling, const ForwardViews& tensors,
                       const Execution& execution);
void run_naive_backward(const Problem& grid, const Tiling& tiling, const BackwardViews& tensors,
                        const Execution& execution);

/// Bytes of workspace.
std::size_t naive_forward_workspace(const Problem& grid, const Tiling& tiling);
std::size_t naive_backward_workspace(const Problem& grid, const Tiling& tiling);

}  // namespace vicinal::cpu
