#pragma once

// The launches of operators that make weights, or change them; a .cu file compiles them for one dtype.

#include "cuda/naive/dispatch.h"
#include "cuda/naive/pointwise.h"
#include "cuda/naive/sums.h"
#include "cuda/naive/tiled.h"

namespace vicinal::cuda::naive {

template <class Executor, class Element>
void WeightLaunches<Executor, Element>::pointwise_neighborhood(const Problem& grid, const PointwiseNeighborhoodViews& t,
                                                               void* stream) {
  Dispatch<Executor, Element>::template by_weight<PointwiseNeighborhood>("PN", grid, t, stream);
}

template <class Executor, class Element>
void WeightLaunches<Executor, Element>::tiled_pointwise_neighborhood(const Problem& grid, const Tiling& tiling,
                                                                     const PointwiseNeighborhoodViews& t, void* stream)
  requires kHasTiles<Element>
{
  const Reach reach = reach_of(grid, t);
  const auto with_weight = [&]<class Weight> {
    reach.choose([&]<class Index, bool kWide> {
      using Work = TiledPointwiseNeighborhood<Types<Element, Weight, Index, kWide ? kWidth<Element> : 1>>;
      Executor(grid, stream).run_tiles("tiled PN", Work(grid, tiling, t));
    });
  };
  if (t.weights.dtype == ElementTraits<Element>::kDType) {
    with_weight.template operator()<Element>();
  } else {
    with_weight.template operator()<SumOf<Element>>();
  }
}

template <class Executor, class Element>
void WeightLaunches<Executor, Element>::softmax(const Problem& grid, const SoftmaxViews& t, void* stream) {
  Dispatch<Executor, Element>::template by_index<Softmax, SumOf<Element>>("softmax", grid, t, stream);
}

template <class Executor, class Element>
void WeightLaunches<Executor, Element>::softmax_gradient(const Problem& grid, const SoftmaxGradientViews& t,
                                                         void* stream) {
  Dispatch<Executor, Element>::template by_index<SoftmaxGradient, SumOf<Element>>("softmax gradient", grid, t, stream);
}

}  // namespace vicinal::cuda::naive
