#pragma once

// Everything a plan needs to run on the CPU: tensors of the problem's shapes, filled with random values, and workspace.

#include <array>
#include <cstdint>
#include <vector>

#include "bench/array.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal::bench {

/// Shapes of a problem's tensors, as include/vicinal/attention.h gives them.
struct Shapes {
  explicit Shapes(const Problem& problem);

  std::vector<std::int64_t> query, key, value, extra_key, extra_value, output, logsumexp;
};

/// One set of tensors for each copy, so that a run can find its inputs out of the cache.
class Workload {
 public:
  /// Allocates and fills. A backward plan's output and logsumexp come from a forward pass.
  /// Throws `Error` (unsupported: the problem is not on the CPU).
  Workload(const Plan& plan, std::int64_t copies, int threads);

  /// Runs the plan on copy number `repetition` modulo the copies.
  void run(std::int64_t repetition);

  /// Copies after which a run no longer finds its inputs in a cache of `cache_bytes`.
  static std::int64_t cold_copies(const Plan& plan, std::size_t cache_bytes);

 private:
  struct Copy {
    Array query, key, value, extra_key, extra_value, output, logsumexp;
    Array grad_output, grad_query, grad_key, grad_value, grad_extra_key, grad_extra_value;
  };

  [[nodiscard]] static ForwardTensors forward_tensors(Copy& copy);
  [[nodiscard]] static BackwardTensors backward_tensors(Copy& copy);

  Plan plan_;
  Execution execution_;
  Buffer workspace_;
  std::vector<Copy> copies_;
};

}  // namespace vicinal::bench
