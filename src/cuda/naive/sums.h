#pragma once

// Sums over many queries for one value, and softmax over the slots of one query: a team of threads works on each item.
// A team adds up in an order of its own that never changes, so results have the same bits in every run.
//
// A team offers rank(), size(), and sum(x) and max(x) over its threads, which all of them must call.

#include <cmath>

#include "cuda/common/grid.h"
#include "cuda/naive/operators.h"
#include "cuda/naive/types.h"

namespace vicinal::cuda::naive {

VICINAL_HOST_DEVICE inline float exponential(float x) { return expf(x); }
VICINAL_HOST_DEVICE inline double exponential(double x) { return exp(x); }
VICINAL_HOST_DEVICE inline float logarithm(float x) { return logf(x); }
VICINAL_HOST_DEVICE inline double logarithm(double x) { return log(x); }

/// IN for extra tokens, which every query attends to. One item is one element of a gradient.
template <class Types>
struct ExtraInverseNeighborhood {
  using Index = typename Types::Index;
  using Element = typename Types::Element;
  using Weight = typename Types::Weight;
  using Sum = SumOf<Element>;
  static constexpr Team kTeam = Team::block;

  Grid<Index> grid;
  Divisor<Index> tokens;  // of one batch entry
  Divisor<Index> heads_kv, extra, dim;
  Strided<const Weight, Index> weights;       // [B, X, Y, Z, H, W]
  Strided<const Element, Index> grad_output;  // [B, X, Y, Z, H, D]
  Strided<Element, Index> grad_extra_value;   // [B, N, G, D]
  Sum scale;
  Index items;

  ExtraInverseNeighborhood(const Problem& problem, const InverseNeighborhoodViews& t)
      : grid(problem),
        tokens(problem.tokens()),
        heads_kv(problem.heads_kv),
        extra(problem.extra_kv),
        dim(problem.dim),
        weights(t.weights),
        grad_output(t.grad_output),
        grad_extra_value(t.grad_extra_value),
        scale(static_cast<Sum>(problem.effective_scale())),
        items(static_cast<Index>(problem.batch * problem.extra_kv * problem.heads_kv * problem.dim)) {}

  template <class Threads>
  VICINAL_HOST_DEVICE void operator()(Index item, const Threads& team) const {
    const Index row = item / dim;
    const Index element = item - row * dim;
    const Index token = row / heads_kv;
    const Index head_kv = row - token * heads_kv;
    const Index batch = token / extra;
    const Index in_batch = token - batch * extra;
    Sum sum = 0;
    const Index queries = tokens * grid.heads_per_key_head;
    for (Index i = team.rank(); i < queries; i += team.size()) {
      const Index query = i / grid.heads_per_key_head;
      const Index head = head_kv * grid.heads_per_key_head + (i - query * grid.heads_per_key_head);
      const Place<Index> at = grid.queries.place((batch * tokens + query) * grid.queries.heads + head);
      sum += widened(weights.row(at)[grid.grid_slots + in_batch]) * widened(grad_output.row(at)[element]);
    }
    sum = team.sum(sum);
    if (team.rank() == 0) {
      grad_extra_value.extra_row(batch, in_batch, head_kv)[element] = narrowed<Element>(scale * sum);
    }
  }
};

/// grad_bias = sum over batch and tokens of grad_weights. One item is one element of the bias; each query has at most
/// one slot for it.
template <class Types>
struct BiasGradient {
  using Index = typename Types::Index;
  using Element = typename Types::Element;
  static constexpr Team kTeam = Team::block;

  Grid<Index> grid;
  BasicSlotGrid<Index> window;
  Divisor<Index> entries;  // of the bias of one head
  SlotSplitter<Index> bias;
  Strided<const Element, Index> grad_weights;  // [B, X, Y, Z, H, W]
  Element* grad_bias;                          // [H, 2*window-1 per axis]
  Index head_stride;
  Index axis_stride[3];
  Index rows_per_head;
  Index items;

  BiasGradient(const Problem& problem, const BiasGradientViews& t)
      : grid(problem),
        window(slots_of_window(grid)),
        entries(bias_entries(problem).size()),
        bias(bias_entries(problem)),
        grad_weights(t.grad_weights),
        grad_bias(static_cast<Element*>(t.grad_bias.data)),
        head_stride(static_cast<Index>(t.grad_bias.head_stride)),
        axis_stride{static_cast<Index>(t.grad_bias.axis_stride[0]), static_cast<Index>(t.grad_bias.axis_stride[1]),
                    static_cast<Index>(t.grad_bias.axis_stride[2])},
        rows_per_head(static_cast<Index>(problem.batch * problem.tokens())),
        items(static_cast<Index>(problem.heads) * entries) {}

  template <class Threads>
  VICINAL_HOST_DEVICE void operator()(Index item, const Threads& team) const {
    const Index head = item / entries;
    Index entry[3];
    bias.split(item - head * entries, entry);
    SumOf<Element> sum = 0;
    for (Index i = team.rank(); i < rows_per_head; i += team.size()) {
      const Place<Index> at = grid.queries.place(i * grid.queries.heads + head);
      Index in_axis[3];
      bool attended = true;
      for (int a = 0; a < 3; ++a) {
        const Position<Index> position = grid.axes[a].position(at.token[a]);
        const BasicInterval<Index> keys = position.keys();
        const Index key = position.index + entry[a] - bias_index(grid.axes[a].window, Index{0}, Index{0});
        attended = attended && keys.contains(key);
        in_axis[a] = slot_of_key(keys, key);
      }
      if (attended) sum += widened(grad_weights.row(at)[window.flat(in_axis[0], in_axis[1], in_axis[2])]);
    }
    sum = team.sum(sum);
    if (team.rank() == 0) {
      grad_bias[head * head_stride + entry[0] * axis_stride[0] + entry[1] * axis_stride[1] +
                entry[2] * axis_stride[2]] = narrowed<Element>(sum);
    }
  }
};

/// Softmax over the slots of each query, in place, and its logsumexp. One item is one query.
template <class Types>
struct Softmax {
  using Index = typename Types::Index;
  using Sum = SumOf<typename Types::Element>;
  static constexpr Team kTeam = Team::warp;

  Rows<Index> rows;
  Strided<Sum, Index> weights;    // [B, X, Y, Z, H, W]
  Strided<Sum, Index> logsumexp;  // [B, X, Y, Z, H]; may be absent
  Index slots;
  Index items;

  Softmax(const Problem& problem, const SoftmaxViews& t)
      : rows(problem, problem.heads),
        weights(t.weights),
        logsumexp(t.logsumexp),
        slots(static_cast<Index>(slots_per_query(problem))),
        items(rows.count) {}

  template <class Threads>
  VICINAL_HOST_DEVICE void operator()(Index item, const Threads& team) const {
    const Place<Index> at = rows.place(item);
    Sum* row = weights.row(at);
    Sum peak = masked_score<Sum>(MaskedScore::minus_infinity);
    for (Index i = team.rank(); i < slots; i += team.size()) peak = row[i] > peak ? row[i] : peak;
    peak = team.max(peak);
    Sum sum = 0;
    for (Index i = team.rank(); i < slots; i += team.size()) sum += row[i] = exponential(row[i] - peak);
    sum = team.sum(sum);
    for (Index i = team.rank(); i < slots; i += team.size()) row[i] /= sum;
    if (logsumexp.data != nullptr && team.rank() == 0) *logsumexp.row(at) = peak + logarithm(sum);
  }
};

/// From scores and the gradients of probabilities to probabilities and the gradients of scores, in place. One item is
/// one query.
template <class Types>
struct SoftmaxGradient {
  using Index = typename Types::Index;
  using Element = typename Types::Element;
  using Sum = SumOf<Element>;
  static constexpr Team kTeam = Team::warp;

  Rows<Index> rows;
  Strided<Sum, Index> weights;                // [B, X, Y, Z, H, W] scores, then probabilities
  Strided<Sum, Index> grad_weights;           // [B, X, Y, Z, H, W] of probabilities, then of scores
  Strided<const Element, Index> output;       // [B, X, Y, Z, H, E]
  Strided<const Element, Index> grad_output;  // [B, X, Y, Z, H, E]
  Strided<const Sum, Index> logsumexp;        // [B, X, Y, Z, H]
  Strided<const Sum, Index> grad_logsumexp;   // [B, X, Y, Z, H]; may be absent
  Index dim_v;
  Index slots;
  Index items;

  SoftmaxGradient(const Problem& problem, const SoftmaxGradientViews& t)
      : rows(problem, problem.heads),
        weights(t.weights),
        grad_weights(t.grad_weights),
        output(t.output),
        grad_output(t.grad_output),
        logsumexp(t.logsumexp),
        grad_logsumexp(t.grad_logsumexp),
        dim_v(static_cast<Index>(problem.dim_v)),
        slots(static_cast<Index>(slots_per_query(problem))),
        items(rows.count) {}

  template <class Threads>
  VICINAL_HOST_DEVICE void operator()(Index item, const Threads& team) const {
    const Place<Index> at = rows.place(item);
    const Element* output_row = output.row(at);
    const Element* grad_output_row = grad_output.row(at);
    Sum delta = 0;
    for (Index i = team.rank(); i < dim_v; i += team.size()) {
      delta += widened(output_row[i]) * widened(grad_output_row[i]);
    }
    delta = team.sum(delta);
    if (grad_logsumexp.data != nullptr) delta -= *grad_logsumexp.row(at);
    const Sum total = *logsumexp.row(at);
    Sum* weight = weights.row(at);
    Sum* grad_weight = grad_weights.row(at);
    for (Index i = team.rank(); i < slots; i += team.size()) {
      const Sum probability = exponential(weight[i] - total);
      weight[i] = probability;
      grad_weight[i] = probability * (grad_weight[i] - delta);
    }
  }
};

}  // namespace vicinal::cuda::naive
