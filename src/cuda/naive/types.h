#pragma once

// What the naive kernels have in common: the types that a kernel is compiled for, who works on one item, and the order
// of slots. Each kernel is a struct of parameters that computes one item; executors (execute.cuh, and a loop on the CPU
// in the tests) run it over all items.

#include <cstdint>
#include <limits>

#include "core/slots.h"
#include "cuda/common/element.h"
#include "cuda/common/grid.h"
#include "vicinal/unfused.h"

namespace vicinal::cuda::naive {

/// `V`: elements of one access, 1 or kWidth<E>.
template <class E, class W, class I, int V>
struct Types {
  using Element = E;
  using Weight = W;  ///< Element, or what its sums are kept in
  using Index = I;
  static constexpr int kVector = V;
};

/// The threads that work on one item together.
enum class Team : std::uint8_t { thread, warp, block };

/// The slots of a window, in the kernel's kind of index.
template <class Index>
BasicSlotGrid<Index> slots_of_window(const Grid<Index>& grid) {
  return {{grid.axes[0].window, grid.axes[1].window, grid.axes[2].window}};
}

/// The inverse of SlotGrid::flat: from slots (or entries of a bias) in row-major order to those of each axis.
template <class Index>
struct SlotSplitter {
  Divisor<Index> middle;
  Divisor<Index> last;

  explicit SlotSplitter(const SlotGrid& slots) : middle(slots.extent[1]), last(slots.extent[2]) {}

  VICINAL_HOST_DEVICE void split(Index flat, Index (&in_axis)[3]) const {
    const Index run = flat / last;
    in_axis[0] = run / middle;
    in_axis[1] = run - in_axis[0] * middle;
    in_axis[2] = flat - run * last;
  }
};

template <class Sum>
constexpr Sum masked_score(MaskedScore masked) {
  return masked == MaskedScore::zero ? Sum{0} : -std::numeric_limits<Sum>::infinity();
}

}  // namespace vicinal::cuda::naive
