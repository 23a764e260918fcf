#pragma once

// The launches of operators that sum over weights; a .cu file compiles them for one dtype.

#include "cuda/naive/dispatch.h"
#include "cuda/naive/sums.h"
#include "cuda/naive/weighted.h"

namespace vicinal::cuda::naive {

template <class Executor, class Element>
void SumLaunches<Executor, Element>::neighborhood_neighborhood(const Problem& grid,
                                                               const NeighborhoodNeighborhoodViews& t, void* stream) {
  Dispatch<Executor, Element>::template by_weight<NeighborhoodNeighborhood>("NN", grid, t, stream);
}

template <class Executor, class Element>
void SumLaunches<Executor, Element>::inverse_neighborhood(const Problem& grid, const InverseNeighborhoodViews& t,
                                                          void* stream) {
  using Choice = Dispatch<Executor, Element>;
  Choice::template by_weight<InverseNeighborhood>("IN", grid, t, stream);
  if (grid.extra_kv == 0) return;
  if (t.weights.dtype == ElementTraits<Element>::kDType) {
    Choice::template by_index<ExtraInverseNeighborhood, Element>("IN of extra tokens", grid, t, stream);
  } else {
    Choice::template by_index<ExtraInverseNeighborhood, SumOf<Element>>("IN of extra tokens", grid, t, stream);
  }
}

template <class Executor, class Element>
void SumLaunches<Executor, Element>::bias_gradient(const Problem& grid, const BiasGradientViews& t, void* stream) {
  Dispatch<Executor, Element>::template by_index<BiasGradient, Element>("bias gradient", grid, t, stream);
}

}  // namespace vicinal::cuda::naive
