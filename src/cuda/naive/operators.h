#pragma once

// The naive kernels of one dtype, as functions that put them on a stream. Everything else that the backend does (rows
// of the registry, whole forward and backward passes) is made of these.

#include "core/tiling.h"
#include "core/view.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::naive {

/// Scores become probabilities in place; logsumexp, which may be absent, is written.
struct SoftmaxViews {
  View weights;
  View logsumexp;
};

/// weights: scores become probabilities in place. grad_weights: gradients of probabilities become those of scores.
struct SoftmaxGradientViews {
  View weights, grad_weights;
  View output, grad_output, logsumexp, grad_logsumexp;
};

/// Views are checked and of rank 3; weights are of the problem's dtype or of that of its logsumexp. `dim` is that of
/// every row but those of output and grad_output in SoftmaxGradientViews, which have `dim_v`.
/// Throws `Error` (system) where a kernel cannot be launched.
struct Operators {
  template <class Views>
  using Launch = void (*)(const Problem& grid, const Views& views, void* stream);

  Launch<PointwiseNeighborhoodViews> pointwise_neighborhood;
  /// The same by tiles, for problems that tiled_supports accepts.
  void (*tiled_pointwise_neighborhood)(const Problem& grid, const Tiling& tiling,
                                       const PointwiseNeighborhoodViews& views, void* stream);
  Launch<NeighborhoodNeighborhoodViews> neighborhood_neighborhood;
  Launch<InverseNeighborhoodViews> inverse_neighborhood;
  Launch<BiasGradientViews> bias_gradient;
  Launch<SoftmaxViews> softmax;
  Launch<SoftmaxGradientViews> softmax_gradient;
};

/// Those that run on GPUs.
const Operators& device_operators(DType dtype);

}  // namespace vicinal::cuda::naive
