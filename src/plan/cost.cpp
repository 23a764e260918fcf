#include "plan/cost.h"

#include <algorithm>

#include "core/slots.h"
#include "core/tensors.h"
#include "cpu/parallel.h"

namespace vicinal {
namespace {

// Of a typical server core and its share of the memory. Kernels are compared on one machine, where only the ratio of
// the two matters, and that ratio varies little between machines.
constexpr double kCyclesPerSecond = 3e9;
constexpr double kBytesPerSecond = 20e9;

}  // namespace

double multiply_adds(const Problem& grid, Operation operation, double pairs) {
  const auto dim = static_cast<double>(grid.dim);
  const auto dim_v = static_cast<double>(grid.dim_v);
  const double per_pair = [&] {
    switch (operation) {
      case Operation::forward: return dim + dim_v;
      case Operation::backward: return 3 * dim + 2 * dim_v;
      case Operation::pointwise_neighborhood:
      case Operation::neighborhood_neighborhood:
      case Operation::inverse_neighborhood: return dim;
      case Operation::bias_gradient: break;
    }
    return 1.0;
  }();
  return static_cast<double>(grid.batch) * static_cast<double>(grid.heads) * pairs * per_pair;
}

double weight_elements(const Problem& grid) {
  return static_cast<double>(grid.batch) * static_cast<double>(grid.tokens()) * static_cast<double>(grid.heads) *
         static_cast<double>(slots_per_query(grid));
}

double compulsory_bytes(const Problem& grid, Operation operation) {
  const auto batch = static_cast<double>(grid.batch);
  const auto heads = static_cast<double>(grid.heads);
  const auto dim = static_cast<double>(grid.dim);
  const auto dim_v = static_cast<double>(grid.dim_v);
  const auto tokens = static_cast<double>(grid.tokens());
  const double query = batch * tokens * heads * dim;
  const double output = batch * tokens * heads * dim_v;
  const double keys = batch * (tokens + static_cast<double>(grid.extra_kv)) * static_cast<double>(grid.heads_kv);
  const double key_value = keys * (dim + dim_v);
  const double logsumexps = batch * tokens * heads * static_cast<double>(size_of(logsumexp_dtype(grid.dtype)));
  const auto element = static_cast<double>(size_of(grid.dtype));
  switch (operation) {
    case Operation::forward: return element * (query + key_value + output) + logsumexps;
    // Also reads the gradient of the output and writes the gradients of query, key and value.
    case Operation::backward: return element * 2 * (query + key_value + output) + logsumexps;
    // Weights, one row for each query and one for each key.
    case Operation::pointwise_neighborhood:
    case Operation::neighborhood_neighborhood:
    case Operation::inverse_neighborhood: return element * (weight_elements(grid) + query + keys * dim);
    case Operation::bias_gradient: break;
  }
  return element * weight_elements(grid);
}

double cpu_seconds(double multiply_adds, double per_cycle, double bytes) {
  const double cores = cpu::thread_count(0);
  return std::max(multiply_adds / (cores * per_cycle * kCyclesPerSecond), bytes / kBytesPerSecond);
}

}  // namespace vicinal
