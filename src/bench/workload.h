#pragma once

// Everything a plan needs to run on the CPU again and again: arrays filled with random values, and workspace.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/array.h"
#include "bench/problem_arrays.h"
#include "vicinal/plan.h"

namespace vicinal::bench {

class Workload {
 public:
  /// Allocates and fills as many copies of the arrays as asked for, with the same values. A backward plan's output and
  /// logsumexp come from a forward pass. Throws `Error` (unsupported: the problem is not on the CPU).
  Workload(const Plan& plan, std::int64_t copies, int threads);

  /// Runs another plan of the same problem and operation from now on. Workspace grows, and moves, where it needs more.
  void use(const Plan& plan);

  /// Runs the plan on copy number `repetition` modulo the copies, on a device on a stream (a cudaStream_t).
  void run(std::int64_t repetition, void* stream = nullptr);

  /// Copies to take turns with so that a run no longer finds its inputs in a cache of `cache_bytes`.
  static std::int64_t cold_copies(const Plan& plan, std::size_t cache_bytes);

 private:
  Plan plan_;
  int threads_;
  Buffer workspace_;
  std::vector<ProblemArrays> copies_;
};

}  // namespace vicinal::bench
