#pragma once

// What the results of the unfused operators should be: evaluated in float64 as they are defined, query by query, with
// slots counted from the first key of each window.

#include <vector>

#include "check/expected.h"
#include "vicinal/plan.h"
#include "vicinal/unfused.h"

namespace vicinal::check {

/// The results in float64, and how large they would be without cancellation.
Straightforward unfused_results(const Problem& problem, const Inputs& inputs, Operation operation, MaskedScore masked);

/// The same, rounded to the dtype of the problem where that is fp16 or bf16.
Straightforward rounded_unfused_results(const Problem& problem, const Inputs& inputs, Operation operation,
                                        MaskedScore masked);

/// Writes `value` to every masked slot of dense weights.
void fill_masked_slots(const Problem& problem, double value, std::vector<double>& weights);

}  // namespace vicinal::check
