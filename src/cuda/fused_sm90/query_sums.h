#pragma once

// Sums of dQ in memory, to which the backward pass that keeps keys adds what each tile of queries gets.

#include <cstddef>

#include "core/view.h"
#include "cuda/fused_sm90/parameters.h"

namespace vicinal::cuda::sm90 {

/// Bytes of the sums: float32 [B, H, X', Y', Z', D']. D' is the head dim in whole chunks of kSumChunk elements. Along
/// an axis the dilation groups follow each other, each with room for as many tokens as the largest has, so that a
/// tile's queries are neighbors. Of 8 elements the even ones come first, as matrices of 16 bits are stored that hold
/// floats.
std::size_t query_sums_bytes(const Problem& grid);

/// How the kernel adds to sums at `memory` by tiles of the shape of `tile`. Throws `Error` (system) where the driver
/// refuses the tensor map.
QuerySums query_sums(const Problem& grid, const TileShape& tile, void* memory);

void clear_query_sums(const Problem& grid, void* memory, void* stream);

/// grad_query = scale sums, rounded.
void round_query_sums(const Problem& grid, const void* memory, const View& grad_query, void* stream);

}  // namespace vicinal::cuda::sm90
