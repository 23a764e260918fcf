#pragma once

// How long the naive kernels take, estimated.

#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::naive {

/// Seconds of the kernels on a data-center GPU, to rank them.
double pointwise_seconds(const Problem& grid);
double tiled_pointwise_seconds(const Problem& grid, const Tiling& tiling);
double neighborhood_seconds(const Problem& grid);
double inverse_seconds(const Problem& grid);
double bias_gradient_seconds(const Problem& grid);
double forward_seconds(const Problem& grid);
double backward_seconds(const Problem& grid);

}  // namespace vicinal::cuda::naive
