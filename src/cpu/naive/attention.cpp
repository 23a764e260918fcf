#include "cpu/naive/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/naive/operators.h"

namespace vicinal::cpu {
namespace {

/// The problem of PN, NN and IN on rows of query and key.
Problem of_scores(const Problem& grid) {
  Problem scores = grid;
  scores.dim_v = grid.dim;
  return scores;
}

/// The same on rows of value and output, which are not scaled.
Problem of_values(const Problem& grid) {
  Problem values = grid;
  values.dim = grid.dim_v;
  values.scale = 1;
  return values;
}

void* take_weights(Parts& parts, const Problem& grid) {
  const Extents extents = query_extents(grid, slots_per_query(grid));
  return parts.take(extents.rows() * extents.row * static_cast<std::int64_t>(number_bytes(grid.dtype)));
}

View weights_view(const Problem& grid, void* data) {
  return dense_view(query_extents(grid, slots_per_query(grid)), data,
                    grid.dtype == DType::fp64 ? DType::fp64 : DType::fp32);
}

/// The workspace of both passes: weights, and copies in numbers of what the operators read again and again.
struct ForwardSpace {
  explicit ForwardSpace(const Problem& grid, void* workspace) : parts(workspace) {
    weights = take_weights(parts, grid);
    key = take_copy(parts, grid, key_extents(grid, grid.dim));
    value = take_copy(parts, grid, key_extents(grid, grid.dim_v));
    extra_key = take_copy(parts, grid, extra_extents(grid, grid.dim));
    extra_value = take_copy(parts, grid, extra_extents(grid, grid.dim_v));
  }

  Parts parts;
  void *weights, *key, *value, *extra_key, *extra_value;
};

struct BackwardSpace : ForwardSpace {
  explicit BackwardSpace(const Problem& grid, void* workspace) : ForwardSpace(grid, workspace) {
    grad_weights = take_weights(parts, grid);
    query = take_copy(parts, grid, query_extents(grid, grid.dim));
    grad_output = take_copy(parts, grid, query_extents(grid, grid.dim_v));
  }

  void *grad_weights, *query, *grad_output;
};

/// Replaces key and value by what can be computed with.
template <class Views>
Views with_key_value_in_numbers(const Problem& grid, const Views& tensors, const ForwardSpace& space, int threads) {
  Views t = tensors;
  t.key = in_numbers(t.key, key_extents(grid, grid.dim), space.key, threads);
  t.value = in_numbers(t.value, key_extents(grid, grid.dim_v), space.value, threads);
  t.extra_key = in_numbers(t.extra_key, extra_extents(grid, grid.dim), space.extra_key, threads);
  t.extra_value = in_numbers(t.extra_value, extra_extents(grid, grid.dim_v), space.extra_value, threads);
  return t;
}

/// A query of a rank-3 problem.
struct Place {
  std::int64_t batch, x, y, z, head;

  [[nodiscard]] std::int64_t offset(const View& view) const { return view.offset(batch, x, y, z, head); }
};

/// Calls body(place, row) for every query, in parallel; row counts them heads last.
template <class Body>
void for_each_query(const Problem& grid, int threads, Body body) {
  const auto& layout = grid.layout;
  parallel_for(grid.batch * grid.tokens(), threads, [&](std::int64_t item, int) {
    const std::int64_t token = item % grid.tokens();
    Place at{item / grid.tokens(), token / layout[2] / layout[1], token / layout[2] % layout[1], token % layout[2], 0};
    for (; at.head < grid.heads; ++at.head) body(at, item * grid.heads + at.head);
  });
}

/// Softmax over the slots of each query, in place; -inf becomes 0.
template <class T>
void softmax(const Problem& grid, T* weights, const View& logsumexp, int threads) {
  const std::int64_t slots = slots_per_query(grid);
  for_each_query(grid, threads, [&](const Place& at, std::int64_t row) {
    const std::span<T> w(weights + row * slots, static_cast<std::size_t>(slots));
    const T peak = *std::max_element(w.begin(), w.end());
    T sum{};
    for (T& weight : w) sum += weight = std::exp(weight - peak);
    for (T& weight : w) weight /= sum;
    if (!logsumexp) return;
    const T result = peak + std::log(sum);
    write_elements(logsumexp.data, logsumexp.dtype, at.offset(logsumexp), std::span<const T>(&result, 1));
  });
}

/// Scores become probabilities, and gradients of probabilities those of scores.
template <class T>
void differentiate_softmax(const Problem& grid, const BackwardViews& t, T* weights, T* grad_weights, int threads) {
  const std::int64_t slots = slots_per_query(grid);
  for_each_query(grid, threads, [&](const Place& at, std::int64_t row) {
    std::vector<T> output(grid.dim_v), grad_output(grid.dim_v);
    read_elements(t.output.data, t.output.dtype, at.offset(t.output), std::span<T>(output));
    read_elements(t.grad_output.data, t.grad_output.dtype, at.offset(t.grad_output), std::span<T>(grad_output));
    const auto number = [&](const View& view) { return read_number<T>(view.data, view.dtype, at.offset(view)); };
    const T logsumexp = number(t.logsumexp);
    const T delta =
        dot(output.data(), grad_output.data(), grid.dim_v) - (t.grad_logsumexp ? number(t.grad_logsumexp) : T{});
    T* weight = weights + row * slots;
    T* grad_weight = grad_weights + row * slots;
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      weight[slot] = std::exp(weight[slot] - logsumexp);
      grad_weight[slot] = weight[slot] * (grad_weight[slot] - delta);
    }
  });
}

template <class T>
void forward(const Problem& grid, const ForwardViews& t, const View& weights, int threads) {
  pointwise_neighborhood<T>(of_scores(grid),
                            {.query = t.query, .key = t.key, .extra_key = t.extra_key, .bias = {}, .weights = weights},
                            threads);
  softmax(grid, static_cast<T*>(weights.data), t.logsumexp, threads);
  neighborhood_neighborhood<T>(of_values(grid),
                               {.weights = weights, .value = t.value, .extra_value = t.extra_value, .output = t.output},
                               threads);
}

template <class T>
void backward(const Problem& grid, const BackwardViews& t, const View& weights, const View& grad_weights, int threads) {
  const Problem scores = of_scores(grid), values = of_values(grid);
  pointwise_neighborhood<T>(
      scores, {.query = t.query, .key = t.key, .extra_key = t.extra_key, .bias = {}, .weights = weights}, threads);
  pointwise_neighborhood<T>(values,
                            {.query = t.grad_output,
                             .key = t.value,
                             .extra_key = t.extra_value,
                             .bias = {},
                             .weights = grad_weights,
                             .masked = MaskedScore::zero},
                            threads);
  differentiate_softmax(grid, t, static_cast<T*>(weights.data), static_cast<T*>(grad_weights.data), threads);
  neighborhood_neighborhood<T>(
      scores, {.weights = grad_weights, .value = t.key, .extra_value = t.extra_key, .output = t.grad_query}, threads);
  inverse_neighborhood<T>(
      scores,
      {.weights = grad_weights, .grad_output = t.query, .grad_value = t.grad_key, .grad_extra_value = t.grad_extra_key},
      threads);
  inverse_neighborhood<T>(values,
                          {.weights = weights,
                           .grad_output = t.grad_output,
                           .grad_value = t.grad_value,
                           .grad_extra_value = t.grad_extra_value},
                          threads);
}

}  // namespace

void run_naive_forward(const Problem& grid, const Tiling& /*tiling*/, const ForwardViews& tensors,
                       const Execution& execution) {
  const ForwardSpace space(grid, execution.workspace);
  const ForwardViews t = with_key_value_in_numbers(grid, tensors, space, execution.threads);
  with_number_type(grid.dtype,
                   [&]<class T>(T) { forward<T>(grid, t, weights_view(grid, space.weights), execution.threads); });
}

void run_naive_backward(const Problem& grid, const Tiling& /*tiling*/, const BackwardViews& tensors,
                        const Execution& execution) {
  const BackwardSpace space(grid, execution.workspace);
  BackwardViews t = with_key_value_in_numbers(grid, tensors, space, execution.threads);
  t.query = in_numbers(t.query, query_extents(grid, grid.dim), space.query, execution.threads);
  t.grad_output = in_numbers(t.grad_output, query_extents(grid, grid.dim_v), space.grad_output, execution.threads);
  with_number_type(grid.dtype, [&]<class T>(T) {
    backward<T>(grid, t, weights_view(grid, space.weights), weights_view(grid, space.grad_weights), execution.threads);
  });
}

std::size_t naive_forward_workspace(const Problem& grid, const Tiling& /*tiling*/) {
  return ForwardSpace(grid, nullptr).parts.bytes();
}

std::size_t naive_backward_workspace(const Problem& grid, const Tiling& /*tiling*/) {
  return BackwardSpace(grid, nullptr).parts.bytes();
}

}  // namespace vicinal::cpu
