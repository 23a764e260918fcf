#pragma once

// NN and IN: weighted sums of rows. One thread sums 16 bytes of one output row (one element where rows are not
// aligned), and consecutive threads hold consecutive elements: rows are read in full, each weight by all threads of its
// row at once.

#include "cuda/common/grid.h"
#include "cuda/naive/types.h"

namespace vicinal::cuda::naive {

/// kVector elements of a weighted sum of rows.
template <class Types>
class PartialRow {
 public:
  using Element = typename Types::Element;
  using Sum = SumOf<Element>;

  VICINAL_HOST_DEVICE void add(typename Types::Weight weight, const Element* elements) {
    const Sum factor = widened(weight);
    const auto pack = load<Types::kVector>(elements);
    for (int i = 0; i < Types::kVector; ++i) sums_[i] += factor * widened(pack.values[i]);
  }

  VICINAL_HOST_DEVICE void store_scaled(Sum scale, Element* elements) const {
    Pack<Element, Types::kVector> pack;
    for (int i = 0; i < Types::kVector; ++i) pack.values[i] = narrowed<Element>(scale * sums_[i]);
    store(elements, pack);
  }

 private:
  Sum sums_[Types::kVector] = {};
};

/// NN: output = scale * sum over the keys of the query's window of weights * value.
template <class Types>
struct NeighborhoodNeighborhood {
  using Index = typename Types::Index;
  using Element = typename Types::Element;
  using Weight = typename Types::Weight;
  static constexpr Team kTeam = Team::thread;

  Grid<Index> grid;
  Divisor<Index> packs;                       // of a row
  Strided<const Weight, Index> weights;       // [B, X, Y, Z, H, W]
  Strided<const Element, Index> value;        // [B, X, Y, Z, G, D]
  Strided<const Element, Index> extra_value;  // [B, N, G, D]
  Strided<Element, Index> output;             // [B, X, Y, Z, H, D]
  SumOf<Element> scale;
  Index items;

  NeighborhoodNeighborhood(const Problem& problem, const NeighborhoodNeighborhoodViews& t)
      : grid(problem),
        packs(problem.dim / Types::kVector),
        weights(t.weights),
        value(t.value),
        extra_value(t.extra_value),
        output(t.output),
        scale(static_cast<SumOf<Element>>(problem.effective_scale())),
        items(grid.queries.count * packs) {}

  VICINAL_HOST_DEVICE void operator()(Index item) const {
    const Index row = item / packs;
    const Index element = (item - row * packs) * Types::kVector;
    const Place<Index> at = grid.queries.place(row);
    Place<Index> from = at;
    from.head = at.head / grid.heads_per_key_head;
    BasicInterval<Index> keys[3];
    Index step[3];
    for (int a = 0; a < 3; ++a) {
      const Position<Index> position = grid.axes[a].position(at.token[a]);
      keys[a] = position.keys();
      from.token[a] = grid.axes[a].token(position.group, keys[a].begin);
      step[a] = grid.axes[a].dilation * value.axis_stride[a];
    }

    PartialRow<Types> sum;
    const Weight* plane_weights = weights.row(at);
    const Weight* extra_weights = plane_weights + grid.grid_slots;
    const Element* plane = value.row(from) + element;
    for (Index i = keys[0].begin; i < keys[0].end; ++i) {
      const Weight* run_weights = plane_weights;
      const Element* run = plane;
      for (Index j = keys[1].begin; j < keys[1].end; ++j) {
        const Element* token = run;
        for (Index k = 0; k < keys[2].size(); ++k) {
          sum.add(run_weights[k], token);
          token += step[2];
        }
        run_weights += grid.axes[2].window;
        run += step[1];
      }
      plane_weights += grid.axes[1].window * grid.axes[2].window;
      plane += step[0];
    }
    for (Index n = 0; n < grid.extra; ++n) {
      sum.add(extra_weights[n], extra_value.extra_row(at.batch, n, from.head) + element);
    }
    sum.store_scaled(scale, output.row(at) + element);
  }
};

/// IN: grad_value = scale * sum over the queries that attend to the key, of all heads that share it, of weights *
/// grad_output.
template <class Types>
struct InverseNeighborhood {
  using Index = typename Types::Index;
  using Element = typename Types::Element;
  using Weight = typename Types::Weight;
  static constexpr Team kTeam = Team::thread;

  Grid<Index> grid;
  BasicSlotGrid<Index> window;
  Divisor<Index> packs;                       // of a row
  Strided<const Weight, Index> weights;       // [B, X, Y, Z, H, W]
  Strided<const Element, Index> grad_output;  // [B, X, Y, Z, H, D]
  Strided<Element, Index> grad_value;         // [B, X, Y, Z, G, D]
  SumOf<Element> scale;
  Index items;

  InverseNeighborhood(const Problem& problem, const InverseNeighborhoodViews& t)
      : grid(problem),
        window(slots_of_window(grid)),
        packs(problem.dim / Types::kVector),
        weights(t.weights),
        grad_output(t.grad_output),
        grad_value(t.grad_value),
        scale(static_cast<SumOf<Element>>(problem.effective_scale())),
        items(grid.keys.count * packs) {}

  VICINAL_HOST_DEVICE void operator()(Index item) const {
    const Index row = item / packs;
    const Index element = (item - row * packs) * Types::kVector;
    const Place<Index> at = grid.keys.place(row);
    const Position<Index> x = grid.axes[0].position(at.token[0]);
    const Position<Index> y = grid.axes[1].position(at.token[1]);
    const Position<Index> z = grid.axes[2].position(at.token[2]);
    const BasicInterval<Index> queries_x = x.queries(), queries_y = y.queries(), queries_z = z.queries();

    PartialRow<Types> sum;
    Place<Index> from;
    from.batch = at.batch;
    const Index first_head = at.head * grid.heads_per_key_head;
    for (from.head = first_head; from.head < first_head + grid.heads_per_key_head; ++from.head) {
      for (Index i = queries_x.begin; i < queries_x.end; ++i) {
        from.token[0] = grid.axes[0].token(x.group, i);
        const Index in_x = slot_of_key(x.axis.keys_of(i), x.index);
        for (Index j = queries_y.begin; j < queries_y.end; ++j) {
          from.token[1] = grid.axes[1].token(y.group, j);
          const Index in_y = slot_of_key(y.axis.keys_of(j), y.index);
          for (Index k = queries_z.begin; k < queries_z.end; ++k) {
            from.token[2] = grid.axes[2].token(z.group, k);
            const Index in_z = slot_of_key(z.axis.keys_of(k), z.index);
            sum.add(weights.row(from)[window.flat(in_x, in_y, in_z)], grad_output.row(from) + element);
          }
        }
      }
    }
    sum.store_scaled(scale, grad_value.row(at) + element);
  }
};

}  // namespace vicinal::cuda::naive
