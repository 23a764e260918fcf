#pragma once

// The search for the tilings of the least estimated time.

#include <cstddef>
#include <vector>

#include "cuda/fused_sm90/cost_model.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {

/// Where no more tilings are asked for, a search looks only at those that are likely to be among them.
inline constexpr std::size_t kFewTilings = 12;

/// A tiling and its estimate.
struct Estimate {
  double seconds;
  Tiling tiling;
};

/// The `count` tilings of the least estimated times, or all where there are fewer; the least first. How
/// evenly items come to blocks is taken from how many there are and how long the longest is (`unevenness_of_items`).
std::vector<Estimate> best_tilings(const Problem& grid, Method method, std::size_t count);

}  // namespace vicinal::cuda::sm90
