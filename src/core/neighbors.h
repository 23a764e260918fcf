#pragma once

// Walks over the neighbors of one token, for code that is written for clarity.

#include <array>
#include <cstdint>

#include "core/slots.h"
#include "core/tiling.h"
#include "core/window.h"
#include "vicinal/problem.h"

namespace vicinal {

/// Coordinates on a grid of rank 3.
using Token = std::array<std::int64_t, 3>;

/// Calls visit(token) for every token of `token`'s dilation phase that `interval` selects on every axis, in ascending
/// order: with &AxisWindow::keys_of the keys that a query attends to, with &AxisWindow::queries_of the queries that
/// attend to a key.
template <class Visit>
void for_each_neighbor(const Problem& grid, const Token& token, Interval (AxisWindow::*interval)(std::int64_t) const,
                       Visit visit) {
  Token group{};
  Box box;
  for (int a = 0; a < 3; ++a) {
    group[a] = token[a] % grid.dilation[a];
    box.axes[a] = (axis_window(grid, a, group[a]).*interval)(token[a] / grid.dilation[a]);
  }
  const auto coordinate = [&](int axis, std::int64_t position) { return group[axis] + grid.dilation[axis] * position; };
  for (std::int64_t i = box.axes[0].begin; i < box.axes[0].end; ++i) {
    for (std::int64_t j = box.axes[1].begin; j < box.axes[1].end; ++j) {
      for (std::int64_t k = box.axes[2].begin; k < box.axes[2].end; ++k) {
        visit(Token{coordinate(0, i), coordinate(1, j), coordinate(2, k)});
      }
    }
  }
}

/// Slots that follow each other, with keys that lie dilation[2] apart along the last axis.
struct SlotRun {
  std::int64_t slot;   ///< the first one
  std::int64_t count;  ///< of slots and keys
  Token key;           ///< of the first slot
  Token bias_entry;    ///< that belongs to the first slot; along the last axis one more for each next slot
};

/// Calls visit(run) for the slots of a query's window that are not masked, in ascending order; extra tokens aside.
template <class Visit>
void for_each_slot_run(const Problem& grid, const Token& query, Visit visit) {
  const SlotGrid slots = window_slots(grid);
  Token position{};
  std::array<Interval, 3> keys;
  for (int a = 0; a < 3; ++a) {
    position[a] = query[a] / grid.dilation[a];
    keys[a] = axis_window(grid, a, query[a] % grid.dilation[a]).keys_of(position[a]);
  }
  const auto coordinate = [&](int a, std::int64_t key) { return query[a] + grid.dilation[a] * (key - position[a]); };
  const auto entry = [&](int a, std::int64_t key) { return bias_index(grid.window[a], position[a], key); };
  const std::int64_t k = keys[2].begin;
  for (std::int64_t i = keys[0].begin; i < keys[0].end; ++i) {
    for (std::int64_t j = keys[1].begin; j < keys[1].end; ++j) {
      visit(SlotRun{.slot = slots.flat(slot_of_key(keys[0], i), slot_of_key(keys[1], j), 0),
                    .count = keys[2].size(),
                    .key = {coordinate(0, i), coordinate(1, j), coordinate(2, k)},
                    .bias_entry = {entry(0, i), entry(1, j), entry(2, k)}});
    }
  }
}

/// Position of a token in the row-major order of the grid, and back.
inline std::int64_t flat_index(const Problem& grid, const Token& token) {
  return (token[0] * grid.layout[1] + token[1]) * grid.layout[2] + token[2];
}

inline Token token_at(const Problem& grid, std::int64_t index) {
  const auto& [x, y, z] = grid.layout;
  return {index / z / y, index / z % y, index % z};
}

}  // namespace vicinal
