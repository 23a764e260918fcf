#pragma once

// Runs one kernel on one problem and compares it with the float64 oracle. Used by tests and by `vicinal check`.

#include <string>
#include <vector>

#include "check/case.h"
#include "plan/registry.h"

namespace vicinal::check {

/// What a check found.
struct Report {
  std::string refusal;                ///< why the kernel cannot do the problem; empty when it ran
  std::vector<std::string> failures;  ///< one line each: what is wrong, by how much, where
  double worst = 0;                   ///< the largest error as a fraction of its limit

  [[nodiscard]] bool ran() const { return refusal.empty(); }
  [[nodiscard]] bool passed() const { return failures.empty(); }
};

/// Plans the case for `kernel`, runs it and checks
/// - every result against the oracle, overall and for the worst row, for the planned and for random tilings;
/// - that nothing is written outside of results and workspace, which start as NaN;
/// - the same bits with 1, 2, 3 and 5 threads, on a GPU in as many runs as the case says; every one of these runs
///   against the oracle where the kernel is not deterministic;
/// - that NaN in one head or batch entry reaches no other;
/// - forward: the number of neighbors and exact sums, by zero queries and values of -1, 0 and 1.
/// For the unfused operations dim_v becomes dim, and masked slots of weights that are read are NaN.
Report check_case(const Case& c, const KernelRow& kernel);

}  // namespace vicinal::check
