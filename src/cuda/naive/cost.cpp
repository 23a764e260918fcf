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
constexpr double kLaunchSeconds = 6.5e-6;  // as events before and behind it see it
// Bytes of keys or values that kernels load per second, from the first-level cache mostly, measured on an H200: one
// element of them for each multiply-add. PN is slowest because the threads of a warp read different rows.
constexpr double kPointwiseLoads = 3.5e12;
constexpr double kNeighborhoodLoads = 11e12;
constexpr double kInverseLoads = 7e12;
// A thread adds up what the keys of a query weigh, or the queries of a key, one after the other; on an H100.
constexpr double kSecondsOfNeighbor = 0.25e-6;
// From shared memory dtypes matter little: multiply-adds per second.
constexpr double kTiledPointwiseRate = 3.6e12;
constexpr double kBiasChecksPerSecond = 1.7e11;

double rows_of(const Problem& grid) {
  return static_cast<double>(grid.batch) * static_cast<double>(grid.tokens()) * static_cast<double>(grid.heads);
}

double seconds(double of_work, double bytes) { return std::max(of_work, bytes / kBytesPerSecond) + kLaunchSeconds; }

/// Of weights in the dtype of sums, moved this many times.
double seconds_of_weights(const Problem& grid, double times) {
  const double bytes = weight_elements(grid) * static_cast<double>(size_of(logsumexp_dtype(grid.dtype)));
  return seconds(0, bytes * times);
}

/// Seconds for one multiply-add for each weight and element of a row.
double seconds_of_loads(const Problem& grid, std::int64_t dim, double loads) {
  const double elements = weight_elements(grid) * static_cast<double>(dim);
  return elements * static_cast<double>(size_of(grid.dtype)) / loads;
}

/// The same where a thread passes over so many neighbors.
double seconds_of_sums(const Problem& grid, std::int64_t dim, double loads, std::int64_t neighbors) {
  return std::max(seconds_of_loads(grid, dim, loads), static_cast<double>(neighbors) * kSecondsOfNeighbor);
}

/// Keys of a query, and queries of a key, of all heads that share it.
double seconds_of_keys(const Problem& grid, std::int64_t dim) {
  return seconds_of_sums(grid, dim, kNeighborhoodLoads, slots_per_query(grid));
}
double seconds_of_queries(const Problem& grid, std::int64_t dim) {
  const std::int64_t share = grid.heads / grid.heads_kv;
  return seconds_of_sums(grid, dim, kInverseLoads, (slots_per_query(grid) - grid.extra_kv) * share);
}

double bytes_of(const Problem& grid) { return compulsory_bytes(grid, Operation::pointwise_neighborhood); }

}  // namespace

double pointwise_seconds(const Problem& grid) {
  return seconds(seconds_of_loads(grid, grid.dim, kPointwiseLoads), bytes_of(grid));
}

double tiled_pointwise_seconds(const Problem& grid, const Tiling& tiles) {
  // Rows are copied, from the second-level cache, before anything is computed.
  const double copied = rows_of(grid) * static_cast<double>(tiles.columns) / static_cast<double>(tiles.rows) *
                        static_cast<double>(grid.dim) * static_cast<double>(size_of(grid.dtype));
  const double work = weight_elements(grid) * static_cast<double>(grid.dim) / kTiledPointwiseRate;
  return work + seconds(0, bytes_of(grid) + 0.5 * copied);
}

double neighborhood_seconds(const Problem& grid) { return seconds(seconds_of_keys(grid, grid.dim), bytes_of(grid)); }

double inverse_seconds(const Problem& grid) { return seconds(seconds_of_queries(grid, grid.dim), bytes_of(grid)); }

double bias_gradient_seconds(const Problem& grid) {
  // Every row of weights is looked at once for each entry of the bias.
  const double entries = static_cast<double>(bias_entries(grid).size());
  return seconds(rows_of(grid) * entries / kBiasChecksPerSecond, bytes_of(grid));
}

double forward_seconds(const Problem& grid) {
  return pointwise_seconds(grid) + seconds_of_weights(grid, 4) +
         seconds(seconds_of_keys(grid, grid.dim_v), bytes_of(grid));
}

double backward_seconds(const Problem& grid) {
  return pointwise_seconds(grid) + seconds(seconds_of_loads(grid, grid.dim_v, kPointwiseLoads), bytes_of(grid)) +
         seconds_of_weights(grid, 6) + neighborhood_seconds(grid) + inverse_seconds(grid) +
         seconds(seconds_of_queries(grid, grid.dim_v), bytes_of(grid));
}

}  // namespace vicinal::cuda::naive
