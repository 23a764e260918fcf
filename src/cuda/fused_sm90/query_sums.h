#pragma once

// Sums of dQ in memory (workspace_views.h), to which the backward pass that keeps keys adds what each tile of queries
// gets.

#include "core/view.h"
#include "cuda/fused_sm90/parameters.h"

namespace vicinal::cuda::sm90 {

/// How the kernel adds to sums at `memory` by tiles of the shape of `tile`. Throws `Error` (system) where the driver
/// refuses the tensor map.
QuerySums query_sums(const Problem& grid, const TileShape& tile, void* memory);

void clear_query_sums(const Problem& grid, void* memory, void* stream);

/// grad_query = scale sums, rounded.
void round_query_sums(const Problem& grid, const void* memory, const View& grad_query, void* stream);

}  // namespace vicinal::cuda::sm90
