#pragma once

// PN, one thread per weight: weights = scale * dot(query, key) + bias. Consecutive threads hold consecutive slots of
// one query, so weights are written in full cache lines and the query is read once for all of them.

#include "cuda/common/grid.h"
#include "cuda/naive/types.h"

namespace vicinal::cuda::naive {

/// The relative positional bias, found by the positions of query and key. Absent: zero.
template <class Types>
class Bias {
 public:
  using Index = typename Types::Index;
  using Element = typename Types::Element;

  explicit Bias(const BiasView& view)
      : data_(static_cast<const Element*>(view.data)),
        head_stride_(static_cast<Index>(view.head_stride)),
        axis_stride_{static_cast<Index>(view.axis_stride[0]), static_cast<Index>(view.axis_stride[1]),
                     static_cast<Index>(view.axis_stride[2])} {}

  /// `entry`: bias_index of each axis.
  VICINAL_HOST_DEVICE SumOf<Element> at(Index head, const Index (&entry)[3]) const {
    if (data_ == nullptr) return 0;
    return widened(data_[head * head_stride_ + entry[0] * axis_stride_[0] + entry[1] * axis_stride_[1] +
                         entry[2] * axis_stride_[2]]);
  }

 private:
  const Element* data_;
  Index head_stride_;
  Index axis_stride_[3];
};

template <class Types>
struct PointwiseNeighborhood {
  using Index = typename Types::Index;
  using Element = typename Types::Element;
  using Weight = typename Types::Weight;
  using Sum = SumOf<Element>;
  static constexpr Team kTeam = Team::thread;

  Grid<Index> grid;
  SlotSplitter<Index> window;
  Divisor<Index> slots;
  Strided<const Element, Index> query;      // [B, X, Y, Z, H, D]
  Strided<const Element, Index> key;        // [B, X, Y, Z, G, D]
  Strided<const Element, Index> extra_key;  // [B, N, G, D]
  Bias<Types> bias;                         // [H, 2*window-1 per axis]
  Strided<Weight, Index> weights;           // [B, X, Y, Z, H, W]
  Sum scale;
  Weight masked;
  Index items;

  PointwiseNeighborhood(const Problem& problem, const PointwiseNeighborhoodViews& t)
      : grid(problem),
        window(window_slots(problem)),
        slots(slots_per_query(problem)),
        query(t.query),
        key(t.key),
        extra_key(t.extra_key),
        bias(t.bias),
        weights(t.weights),
        scale(static_cast<Sum>(problem.effective_scale())),
        masked(narrowed<Weight>(masked_score<Sum>(t.masked))),
        items(grid.queries.count * slots) {}

  VICINAL_HOST_DEVICE void operator()(Index item) const {
    const Index row = item / slots;
    const Index slot = item - row * slots;
    const Place<Index> at = grid.queries.place(row);
    const Element* query_row = query.row(at);
    Place<Index> from = at;
    from.head = at.head / grid.heads_per_key_head;
    Weight* weight = weights.row(at) + slot;
    if (slot >= grid.grid_slots) {
      const Element* key_row = extra_key.extra_row(at.batch, slot - grid.grid_slots, from.head);
      *weight = narrowed<Weight>(scale * dot(query_row, key_row));
      return;
    }
    Index in_axis[3];
    Index entry[3];
    window.split(slot, in_axis);
    for (int a = 0; a < 3; ++a) {
      const Position<Index> position = grid.axes[a].position(at.token[a]);
      const BasicInterval<Index> keys = position.keys();
      if (is_masked(keys, in_axis[a])) {
        *weight = masked;
        return;
      }
      const Index index = key_of_slot(keys, in_axis[a]);
      from.token[a] = grid.axes[a].token(position.group, index);
      entry[a] = bias_index(grid.axes[a].window, position.index, index);
    }
    *weight = narrowed<Weight>(scale * dot(query_row, key.row(from)) + bias.at(at.head, entry));
  }

 private:
  VICINAL_HOST_DEVICE Sum dot(const Element* a, const Element* b) const {
    Sum sum = 0;
    for (Index d = 0; d < grid.dim; d += Types::kVector) {
      const auto x = load<Types::kVector>(a + d);
      const auto y = load<Types::kVector>(b + d);
      for (int i = 0; i < Types::kVector; ++i) sum += widened(x.values[i]) * widened(y.values[i]);
    }
    return sum;
  }
};

}  // namespace vicinal::cuda::naive
