#pragma once

// The workspace of the backward passes, and how delta and sums of dQ lie in it, for code that includes no CUDA header.

#include <cstddef>
#include <cstdint>

#include "core/view.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

/// float32 [B, H, X, Y, Z] at `memory`: delta (delta.h), and what else there is one of for each query of each head.
View delta_view(const Problem& grid, void* memory);

/// Bytes of that part of a workspace; the next begins where the copy engine can reach it.
std::size_t delta_bytes(const Problem& grid);

/// The head dim in whole groups of 8 elements, of which the even ones come first, as matrices of 16 bits are stored
/// that hold floats; so rows begin at multiples of 32 bytes, of which the copy engine wants 16.
std::int64_t summed_dim(const Problem& grid);

/// float32 [B, H, X, Y, Z, summed_dim] at `memory`, one row for each query of each head. Along an axis the dilation
/// groups follow each other (`PackedGroups`), so that a tile's queries are neighbors.
View query_sums_view(const Problem& grid, void* memory);

std::size_t query_sums_bytes(const Problem& grid);

/// Bytes of two passes: of delta, and behind it of partial sums of the gradients of extra tokens (extra_splits.h).
std::size_t backward_workspace(const Problem& grid, const Tiling& tiling);

/// Bytes of one pass: of two floats for each query of each head (`compute_biases`), and of sums of dQ.
std::size_t backward_one_pass_workspace(const Problem& grid, const Tiling& tiling);

}  // namespace vicinal::cuda::sm90
