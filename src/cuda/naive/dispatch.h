#pragma once

// From a call to the kernel compiled for its types: weights in the element type or in that of sums, 32-bit or 64-bit
// indices, one element or 16 bytes per access. Here are the table of operators and how they choose; what they launch is
// in launch_weights.h and launch_sums.h, and compiled in one file for each of the two and each dtype.
//
// An executor is made of the problem and the stream, and runs a kernel over its items:
//   Executor(grid, stream).run(name, work)

#include <cstdint>
#include <type_traits>

#include "cuda/common/grid.h"
#include "cuda/naive/operators.h"
#include "cuda/naive/types.h"

namespace vicinal::cuda::naive {

template <class Element>
inline constexpr bool kHasTiles = !std::is_same_v<Element, double>;  // tiled_supports says so

/// Operators that make weights of one element type, or change them.
template <class Executor, class Element>
struct WeightLaunches {
  static void pointwise_neighborhood(const Problem& grid, const PointwiseNeighborhoodViews& t, void* stream);
  static void tiled_pointwise_neighborhood(const Problem& grid, const Tiling& tiling,
                                           const PointwiseNeighborhoodViews& t, void* stream)
    requires kHasTiles<Element>;
  static void softmax(const Problem& grid, const SoftmaxViews& t, void* stream);
  static void softmax_gradient(const Problem& grid, const SoftmaxGradientViews& t, void* stream);
};

/// Operators that sum over weights of one element type.
template <class Executor, class Element>
struct SumLaunches {
  static void neighborhood_neighborhood(const Problem& grid, const NeighborhoodNeighborhoodViews& t, void* stream);
  static void inverse_neighborhood(const Problem& grid, const InverseNeighborhoodViews& t, void* stream);
  static void bias_gradient(const Problem& grid, const BiasGradientViews& t, void* stream);
};

template <class Executor, class Element>
constexpr Operators operators_of_element() {
  using Weights = WeightLaunches<Executor, Element>;
  using Sums = SumLaunches<Executor, Element>;
  Operators operators{.pointwise_neighborhood = &Weights::pointwise_neighborhood,
                      .tiled_pointwise_neighborhood = nullptr,
                      .neighborhood_neighborhood = &Sums::neighborhood_neighborhood,
                      .inverse_neighborhood = &Sums::inverse_neighborhood,
                      .bias_gradient = &Sums::bias_gradient,
                      .softmax = &Weights::softmax,
                      .softmax_gradient = &Weights::softmax_gradient};
  if constexpr (kHasTiles<Element>) operators.tiled_pointwise_neighborhood = &Weights::tiled_pointwise_neighborhood;
  return operators;
}

/// Those that an executor runs.
template <class Executor>
const Operators& operators_of(DType dtype) {
  static constexpr Operators kFp64 = operators_of_element<Executor, double>();
  static constexpr Operators kFp32 = operators_of_element<Executor, float>();
  static constexpr Operators kFp16 = operators_of_element<Executor, Half>();
  static constexpr Operators kBf16 = operators_of_element<Executor, Bfloat>();
  switch (dtype) {
    case DType::fp64: return kFp64;
    case DType::fp32: return kFp32;
    case DType::fp16: return kFp16;
    case DType::bf16: break;
  }
  return kBf16;
}

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

/// Runs kernels of one element type with the kinds of index and of access that the tensors allow.
template <class Executor, class Element>
struct Dispatch {
  using Narrow = std::int32_t;
  using Wide = std::int64_t;
  using Sum = SumOf<Element>;

  template <template <class> class Work, class Views>
  static void by_weight(const char* name, const Problem& grid, const Views& t, void* stream) {
    if (t.weights.dtype == ElementTraits<Element>::kDType) {
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

  template <class Work, class Views>
  static void run(const char* name, const Problem& grid, const Views& t, void* stream) {
    Executor(grid, stream).run(name, Work(grid, t));
  }
};

}  // namespace vicinal::cuda::naive
