#include "plan/cost.h"

#include <algorithm>

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
  const double per_pair = operation == Operation::forward ? dim + dim_v : 3 * dim + 2 * dim_v;
  return static_cast<double>(grid.batch) * static_cast<double>(grid.heads) * pairs * per_pair;
}

double compulsory_bytes(const Problem& grid, Operation operation) {
  const auto heads = static_cast<double>(grid.heads);
  const auto heads_kv = static_cast<double>(grid.heads_kv);
  const auto dim = static_cast<double>(grid.dim);
  const auto dim_v = static_cast<double>(grid.dim_v);
  const auto tokens = static_cast<double>(grid.tokens());
  const double query = tokens * heads * dim;
  const double output = tokens * heads * dim_v;
  const double key_value = (tokens + static_cast<double>(grid.extra_kv)) * heads_kv * (dim + dim_v);
  // Backward also reads the gradient of the output and writes the gradients of query, key and value.
  const double elements =
      operation == Operation::forward ? query + key_value + output : 2 * query + 2 * key_value + 2 * output;
  const double logsumexps = tokens * heads;
  return static_cast<double>(grid.batch) * (elements * static_cast<double>(size_of(grid.dtype)) +
                                            logsumexps * static_cast<double>(size_of(logsumexp_dtype(grid.dtype))));
}

double cpu_seconds(double multiply_adds, double per_cycle, double bytes) {
  const double cores = cpu::thread_count(0);
  return std::max(multiply_adds / (cores * per_cycle * kCyclesPerSecond), bytes / kBytesPerSecond);
}

}  // namespace vicinal
