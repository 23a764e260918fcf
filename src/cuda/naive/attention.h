#pragma once

// Whole forward and backward passes from the unfused operators and softmax, with the weights in the workspace.

#include <cstddef>

#include "core/view.h"
#include "cuda/naive/operators.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::naive {

std::size_t forward_workspace(const Problem& grid);
std::size_t backward_workspace(const Problem& grid);

void forward(const Operators& operators, const Problem& grid, const ForwardViews& tensors, const Execution& execution);
void backward(const Operators& operators, const Problem& grid, const BackwardViews& tensors,
              const Execution& execution);

/// By tiles where that is estimated to be quicker.
void pointwise_neighborhood(const Operators& operators, const Problem& grid, const PointwiseNeighborhoodViews& tensors,
                            void* stream);

}  // namespace vicinal::cuda::naive
