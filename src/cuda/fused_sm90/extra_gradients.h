#pragma once

// Gradients of the extra tokens, which every query attends to: dK_n = scale sum dS Q and dV_n = sum P dO over all
// queries of all heads that share a key head.

#include "core/view.h"

namespace vicinal::cuda::sm90 {

/// Sums splits of the queries, each in a fixed order, and then the splits, so results are the same in every run and on
/// any number of multiprocessors. `delta` is that of compute_delta, and `workspace` has `extra_gradients_bytes`
/// (extra_splits.h).
void compute_extra_gradients(const Problem& grid, const BackwardViews& tensors, const View& delta, void* workspace,
                             void* stream);

}  // namespace vicinal::cuda::sm90
