#pragma once

// The unfused operators on the CPU (include/vicinal/unfused.h), as they are defined: PN and NN walk over the slots of
// each query, IN over the queries of each key. Every element of a result is computed by one thread in one order.

#include <cstddef>
#include <cstdint>

#include "core/slots.h"
#include "core/view.h"
#include "cpu/naive/numbers.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal::cpu {

// What the registry launches.

void run_pointwise_neighborhood(const Problem& grid, const Tiling& tiling, const PointwiseNeighborhoodViews& tensors,
                                const Execution& execution);
void run_neighborhood_neighborhood(const Problem& grid, const Tiling& tiling,
                                   const NeighborhoodNeighborhoodViews& tensors, const Execution& execution);
void run_inverse_neighborhood(const Problem& grid, const Tiling& tiling, const InverseNeighborhoodViews& tensors,
                              const Execution& execution);
void run_bias_gradient(const Problem& grid, const Tiling& tiling, const BiasGradientViews& tensors,
                       const Execution& execution);

/// Bytes of workspace of PN and NN, which convert rows of keys, and of IN, which converts rows of queries.
std::size_t key_rows_workspace(const Problem& grid, const Tiling& tiling);
std::size_t query_rows_workspace(const Problem& grid, const Tiling& tiling);
std::size_t bias_gradient_workspace(const Problem& grid, const Tiling& tiling);

// The operators where what is read again and again is in T, float or double: the keys of PN, the values of NN, the
// grad_output of IN, extra tokens included. All else may have any dtype.

template <class T>
void pointwise_neighborhood(const Problem& grid, const PointwiseNeighborhoodViews& tensors, int threads);
template <class T>
void neighborhood_neighborhood(const Problem& grid, const NeighborhoodNeighborhoodViews& tensors, int threads);
template <class T>
void inverse_neighborhood(const Problem& grid, const InverseNeighborhoodViews& tensors, int threads);

// The extents of tensors.

inline Extents query_extents(const Problem& grid, std::int64_t row) {
  return {grid.batch, grid.layout, grid.heads, row};
}
inline Extents key_extents(const Problem& grid, std::int64_t row) {
  return {grid.batch, grid.layout, grid.heads_kv, row};
}
inline Extents extra_extents(const Problem& grid, std::int64_t row) {
  return {grid.batch, {1, 1, grid.extra_kv}, grid.heads_kv, row};
}

/// Memory for a copy in numbers of a tensor of the problem's dtype; none where it needs no copy.
inline void* take_copy(Parts& parts, const Problem& grid, const Extents& extents) {
  return parts.take(is_narrow(grid.dtype) ? extents.rows() * extents.row * std::int64_t{sizeof(float)} : 0);
}

}  // namespace vicinal::cpu
