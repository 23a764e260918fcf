#pragma once

// From a call to the kernel compiled for its types: weights in the element type or in that of sums, 32-bit or 64-bit
// indices, one element or 16 bytes per access.
//
// An executor is made of the problem and the stream, and runs a kernel over its items:
//   Executor(grid, stream).run(name, work)

#include <type_traits>

#include "cuda/common/grid.h"
#include "cuda/naive/operators.h"
#include "cuda/naive/pointwise.h"
#include "cuda/naive/sums.h"
#include "cuda/naive/tiled.h"
#include "cuda/naive/types.h"
#include "cuda/naive/weighted.h"

namespace vicinal::cuda::naive {

inline std::int64_t rows_of_weights(const Problem& grid) { return grid.batch * grid.tokens() * grid.heads; }

inline Reach reach_of(const Problem& grid, const PointwiseNeighborhoodViews& t) {
  const std::int64_t slots = slots_per_query(grid);
  return Reach(grid)
      .rows(t.query, grid.heads, grid.dim, true)
      .rows(t.key, grid.heads_kv, grid.dim, true)
      .extra_rows(t.extra_key, grid.heads_kv, grid.dim, true)
      .rows(t.weights, grid.heads, slots, false)
      .items(rows_of_weights(grid) * slots);
}

inline Reach reach_of(const Problem& grid, const NeighborhoodNeighborhoodViews& t) {
  return Reach(grid)
      .rows(t.weights, grid.heads, slots_per_query(grid), false)
      .rows(t.value, grid.heads_kv, grid.dim, true)
      .extra_rows(t.extra_value, grid.heads_kv, grid.dim, true)
      .rows(t.output, grid.heads, grid.dim, true)
      .items(rows_of_weights(grid) * grid.dim);
}

inline Reach reach_of(const Problem& grid, const InverseNeighborhoodViews& t) {
  return Reach(grid)
      .rows(t.weights, grid.heads, slots_per_query(grid), false)
      .rows(t.grad_output, grid.heads, grid.dim, true)
      .rows(t.grad_value, grid.heads_kv, grid.dim, true)
      .extra_rows(t.grad_extra_value, grid.heads_kv, grid.dim, true)
      .items(rows_of_weights(grid) * grid.dim)
      .items(grid.batch * grid.extra_kv * grid.heads_kv * grid.dim);
}

inline Reach reach_of(const Problem& grid, const BiasGradientViews& t) {
  return Reach(grid)
      .rows(t.grad_weights, grid.heads, slots_per_query(grid), false)
      .items(rows_of_weights(grid))
      .items(8 * grid.heads * grid.window[0] * grid.window[1] * grid.window[2]);
}

inline Reach reach_of(const Problem& grid, const SoftmaxViews& t) {
  return Reach(grid)
      .rows(t.weights, grid.heads, slots_per_query(grid), false)
      .rows(t.logsumexp, grid.heads, 1, false)
      .items(rows_of_weights(grid));
}

inline Reach reach_of(const Problem& grid, const SoftmaxGradientViews& t) {
  return Reach(grid)
      .rows(t.weights, grid.heads, slots_per_query(grid), false)
      .rows(t.grad_weights, grid.heads, slots_per_query(grid), false)
      .rows(t.output, grid.heads, grid.dim_v, false)
      .rows(t.grad_output, grid.heads, grid.dim_v, false)
      .rows(t.logsumexp, grid.heads, 1, false)
      .rows(t.grad_logsumexp, grid.heads, 1, false)
      .items(rows_of_weights(grid));
}

/// The operators of one element type.
template <class Executor, class Element>
class Dispatch {
 public:
  static constexpr Operators operators() {
    return {.pointwise_neighborhood = &pointwise_neighborhood,
            .tiled_pointwise_neighborhood = tiled(),
            .neighborhood_neighborhood = &neighborhood_neighborhood,
            .inverse_neighborhood = &inverse_neighborhood,
            .bias_gradient = &bias_gradient,
            .softmax = &softmax,
            .softmax_gradient = &softmax_gradient};
  }

 private:
  using Narrow = std::int32_t;
  using Wide = std::int64_t;
  using Sum = SumOf<Element>;

  static void pointwise_neighborhood(const Problem& grid, const PointwiseNeighborhoodViews& t, void* stream) {
    by_weight<PointwiseNeighborhood>("PN", grid, t, t.weights.dtype, stream);
  }

  static void neighborhood_neighborhood(const Problem& grid, const NeighborhoodNeighborhoodViews& t, void* stream) {
    by_weight<NeighborhoodNeighborhood>("NN", grid, t, t.weights.dtype, stream);
  }

  static void inverse_neighborhood(const Problem& grid, const InverseNeighborhoodViews& t, void* stream) {
    by_weight<InverseNeighborhood>("IN", grid, t, t.weights.dtype, stream);
    if (grid.extra_kv == 0) return;
    if (t.weights.dtype == ElementTraits<Element>::kDType) {
      by_index<ExtraInverseNeighborhood, Element>("IN of extra tokens", grid, t, stream);
    } else {
      by_index<ExtraInverseNeighborhood, Sum>("IN of extra tokens", grid, t, stream);
    }
  }

  static void bias_gradient(const Problem& grid, const BiasGradientViews& t, void* stream) {
    by_index<BiasGradient, Element>("bias gradient", grid, t, stream);
  }

  static void softmax(const Problem& grid, const SoftmaxViews& t, void* stream) {
    by_index<Softmax, Sum>("softmax", grid, t, stream);
  }

  static void softmax_gradient(const Problem& grid, const SoftmaxGradientViews& t, void* stream) {
    by_index<SoftmaxGradient, Sum>("softmax gradient", grid, t, stream);
  }

  static constexpr auto tiled() -> decltype(Operators::tiled_pointwise_neighborhood) {
    if constexpr (std::is_same_v<Element, double>) {
      return nullptr;  // tiled_supports says so
    } else {
      return &tiled_pointwise_neighborhood;
    }
  }

  static void tiled_pointwise_neighborhood(const Problem& grid, const Tiling& tiling,
                                           const PointwiseNeighborhoodViews& t, void* stream) {
    if (t.weights.dtype == ElementTraits<Element>::kDType) {
      tiled_by_index<Element>(grid, tiling, t, stream);
    } else {
      tiled_by_index<Sum>(grid, tiling, t, stream);
    }
  }

  template <template <class> class Work, class Views>
  static void by_weight(const char* name, const Problem& grid, const Views& t, DType weights, void* stream) {
    if (weights == ElementTraits<Element>::kDType) {
      by_access<Work, Element>(name, grid, t, stream);
    } else {
      by_access<Work, Sum>(name, grid, t, stream);
    }
  }

  template <template <class> class Work, class Weight, class Views>
  static void by_access(const char* name, const Problem& grid, const Views& t, void* stream) {
    const Reach reach = reach_of(grid, t);
    if (reach.fits_32_bits() && reach.aligned()) {
      run<Work<Types<Element, Weight, Narrow, kWidth<Element>>>>(name, grid, t, stream);
    } else if (reach.fits_32_bits()) {
      run<Work<Types<Element, Weight, Narrow, 1>>>(name, grid, t, stream);
    } else if (reach.aligned()) {
      run<Work<Types<Element, Weight, Wide, kWidth<Element>>>>(name, grid, t, stream);
    } else {
      run<Work<Types<Element, Weight, Wide, 1>>>(name, grid, t, stream);
    }
  }

  template <template <class> class Work, class Weight, class Views>
  static void by_index(const char* name, const Problem& grid, const Views& t, void* stream) {
    if (reach_of(grid, t).fits_32_bits()) {
      run<Work<Types<Element, Weight, Narrow, 1>>>(name, grid, t, stream);
    } else {
      run<Work<Types<Element, Weight, Wide, 1>>>(name, grid, t, stream);
    }
  }

  template <class Weight>
  static void tiled_by_index(const Problem& grid, const Tiling& tiling, const PointwiseNeighborhoodViews& t,
                             void* stream) {
    const Reach reach = reach_of(grid, t);
    if (!reach.fits_32_bits()) {
      run_tiles<Types<Element, Weight, Wide, 1>>(grid, tiling, t, stream);
    } else if (reach.aligned()) {
      run_tiles<Types<Element, Weight, Narrow, kWidth<Element>>>(grid, tiling, t, stream);
    } else {
      run_tiles<Types<Element, Weight, Narrow, 1>>(grid, tiling, t, stream);
    }
  }

  template <class Work, class Views>
  static void run(const char* name, const Problem& grid, const Views& t, void* stream) {
    Executor(grid, stream).run(name, Work(grid, t));
  }

  template <class Types>
  static void run_tiles(const Problem& grid, const Tiling& tiling, const PointwiseNeighborhoodViews& t, void* stream) {
    Executor(grid, stream).run_tiles("tiled PN", TiledPointwiseNeighborhood<Types>(grid, tiling, t));
  }
};

}  // namespace vicinal::cuda::naive
