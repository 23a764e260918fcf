#pragma once

// Tile shapes that a caller wants, in part or whole.

#include <cstdint>
#include <optional>

#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal {

/// As in Tiling, but with the axes of the problem, not padded; the planner chooses what is left out.
struct ForcedTiling {
  std::optional<PerAxis<std::int64_t>> query_tile, key_tile, block;
  std::optional<std::int64_t> rows, columns;

  friend bool operator==(const ForcedTiling&, const ForcedTiling&) = default;
};

/// `options` with the whole tiling: what is left out is as the kernel that `options` choose would have it, with as many
/// rows and columns as the tiles need. Throws `Error` as make_plan does.
PlanOptions with_forced_tiling(const Problem& problem, Operation operation, PlanOptions options,
                               const ForcedTiling& forced);

}  // namespace vicinal
