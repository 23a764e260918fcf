#pragma once

// Entry points of the fused CPU kernels, and what they share at run time.

#include <cstddef>

#include "core/view.h"
#include "vicinal/attention.h"

namespace vicinal::cpu {

void run_fused_forward(const Problem& grid, const Tiling& tiling, const ForwardViews& tensors,
                       const Execution& execution);

void run_fused_backward(const Problem& grid, const Tiling& tiling, const BackwardViews& tensors,
                        const Execution& execution);

/// Bytes of workspace that the backward pass needs.
std::size_t fused_backward_workspace(const Problem& grid, const Tiling& tiling);

/// This thread's scratch memory, at least `bytes` of it; kept between calls so that a warm run allocates nothing.
std::byte* thread_scratch(std::size_t bytes);

}  // namespace vicinal::cpu
