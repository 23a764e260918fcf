#pragma once

// Slots: where the weight of a (query, key) pair lies in the weights of the unfused operators, and which entry of a
// relative positional bias belongs to it (include/vicinal/unfused.h). Positions are local to one dilation group of one
// axis, as in core/window.h, which says what keys a query attends to. Host and device.

#include <cstdint>

#include "core/window.h"
#include "vicinal/problem.h"

namespace vicinal {

/// Along one axis: the slot of a key that the query attends to; `keys` is AxisWindow::keys_of(query).
template <class Index>
VICINAL_HOST_DEVICE constexpr Index slot_of_key(BasicInterval<Index> keys, Index key) {
  return key - keys.begin;
}

/// Along one axis: the key of a slot, an attended one unless the slot is masked.
template <class Index>
VICINAL_HOST_DEVICE constexpr Index key_of_slot(BasicInterval<Index> keys, Index slot) {
  return keys.begin + slot;
}

/// Along one axis: whether a slot of the window has no key. Only causal windows are cut, so masked slots come last.
template <class Index>
VICINAL_HOST_DEVICE constexpr bool is_masked(BasicInterval<Index> keys, Index slot) {
  return slot >= keys.size();
}

/// Along one axis: the entry of the bias, of 2 * window - 1, for an attended pair of positions.
template <class Index>
VICINAL_HOST_DEVICE constexpr Index bias_index(Index window, Index query, Index key) {
  return window - 1 + key - query;
}

/// Slots (or entries of a bias) of three axes in row-major order.
template <class Index>
struct BasicSlotGrid {
  Index extent[3]{};

  VICINAL_HOST_DEVICE constexpr Index size() const { return extent[0] * extent[1] * extent[2]; }
  VICINAL_HOST_DEVICE constexpr Index flat(Index i, Index j, Index k) const {
    return (i * extent[1] + j) * extent[2] + k;
  }
};

using SlotGrid = BasicSlotGrid<std::int64_t>;

/// The slots of a window of a problem of rank 3, those of extra tokens aside.
inline SlotGrid window_slots(const Problem& grid) { return {{grid.window[0], grid.window[1], grid.window[2]}}; }

/// The entries of a relative positional bias of one head, for a problem of rank 3.
inline SlotGrid bias_entries(const Problem& grid) {
  return {{2 * grid.window[0] - 1, 2 * grid.window[1] - 1, 2 * grid.window[2] - 1}};
}

/// Slots of one query, those of extra tokens included; for any rank.
inline std::int64_t slots_per_query(const Problem& problem) {
  std::int64_t slots = 1;
  for (int a = 0; a < problem.rank; ++a) slots *= problem.window[a];
  return slots + problem.extra_kv;
}

}  // namespace vicinal
