#include "cuda/naive/cost.h"

#include <algorithm>
#include <cstdint>

#include "core/slots.h"
#include "core/tensors.h"
#include "plan/cost.h"

namespace vicinal::cuda::naive {
namespace {

// Of a data-center GPU of 2022. Kernels are compared on one GPU, so only ratios matter.
constexpr double kBytesPerSecond = 3e12;
constexpr double kLaunchSeconds = 3e-6;
// Multiply-adds per second by kernel, bound by the loads and index arithmetic around them (docs/benchmarks.md).
constexpr double kPointwiseRate = 1.5e12;
constexpr double kTiledPointwiseRate = 3e12;
constexpr double kWeightedSumRate = 2e12;

double rows_of(const Problem& grid) {
  return static_cast<double>(grid.batch) * static_cast<double>(grid.tokens()) * static_cast<double>(grid.heads);
}

double seconds(double multiply_adds, double rate, double bytes) {
  return std::max(multiply_adds / rate, bytes / kBytesPerSecond) + kLaunchSeconds;
}

/// Of weights in the dtype of sums, moved this many times.
double seconds_of_weights(const Problem& grid, double times) {
  const double bytes = weight_elements(grid) * static_cast<double>(size_of(logsumexp_dtype(grid.dtype)));
  return seconds(0, 1, bytes * times);
}

double product(const Problem& grid, std::int64_t dim) { return weight_elements(grid) * static_cast<double>(dim); }

double bytes_of(const Problem& grid) { return compulsory_bytes(grid, Operation::pointwise_neighborhood); }

}  // namespace

double pointwise_seconds(const Problem& grid) {
  return seconds(product(grid, grid.dim), kPointwiseRate, bytes_of(grid));
}

double tiled_pointwise_seconds(const Problem& grid, const Tiling& tiles) {
  // Rows copied for each query, from the second-level cache, beside what has to be computed.
  const double copied = rows_of(grid) * static_cast<double>(tiles.columns) / static_cast<double>(tiles.rows) *
                        static_cast<double>(grid.dim) * static_cast<double>(size_of(grid.dtype));
  return seconds(product(grid, grid.dim), kTiledPointwiseRate, bytes_of(grid) + 0.5 * copied);
}

double weighted_sum_seconds(const Problem& grid) {
  return seconds(product(grid, grid.dim), kWeightedSumRate, bytes_of(grid));
}

double bias_gradient_seconds(const Problem& grid) {
  // Every row of weights is looked at once for each entry of the bias.
  const double entries = static_cast<double>(bias_entries(grid).size());
  return seconds(rows_of(grid) * entries, kPointwiseRate / 16, bytes_of(grid));
}

double forward_seconds(const Problem& grid) {
  return pointwise_seconds(grid) + seconds_of_weights(grid, 4) +
         seconds(product(grid, grid.dim_v), kWeightedSumRate, bytes_of(grid));
}

double backward_seconds(const Problem& grid) {
  const double dims = static_cast<double>(2 * grid.dim + grid.dim_v);
  return 2 * pointwise_seconds(grid) + seconds_of_weights(grid, 6) +
         seconds(weight_elements(grid) * dims, kWeightedSumRate, 3 * bytes_of(grid));
}

}  // namespace vicinal::cuda::naive
