#pragma once

// The search for the tilings of the least estimated time.

#include <cstddef>
#include <vector>

#include "cuda/fused_sm90/cost_model.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {

/// The `count` tilings of the least estimated times, or all where there are fewer; the least first. Where one is asked
/// for, looks at those that are likely to be it.
std::vector<Tiling> best_tilings(const Problem& grid, Method method, std::size_t count);

}  // namespace vicinal::cuda::sm90
