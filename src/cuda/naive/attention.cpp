#include "cuda/naive/attention.h"

#include <algorithm>
#include <cstdint>

#include "core/tensors.h"
#include "cuda/naive/cost.h"
#include "cuda/naive/tiled.h"
#include "cuda/naive/types.h"

namespace vicinal::cuda::naive {
namespace {

/// Weights of a few batch entries or heads at a time bound the workspace. One head of one batch entry is the least.
constexpr std::int64_t kWorkspaceBytes = std::int64_t{1} << 30;
constexpr std::int64_t kAlignment = 64;

/// A part of the problem whose weights are in memory together: batch entries with all heads, or some heads of one.
struct Part {
  std::int64_t batch;
  std::int64_t heads_kv;
};

std::int64_t weights_bytes(const Problem& grid, const Part& part) {
  const std::int64_t rows = part.batch * grid.tokens() * part.heads_kv * (grid.heads / grid.heads_kv);
  const std::int64_t bytes =
      rows * slots_per_query(grid) * static_cast<std::int64_t>(size_of(logsumexp_dtype(grid.dtype)));
  return ceil_div(bytes, kAlignment) * kAlignment;
}

Part part_of(const Problem& grid, std::int64_t bytes) {
  const std::int64_t heads = std::clamp<std::int64_t>(bytes / weights_bytes(grid, {1, 1}), 1, grid.heads_kv);
  if (heads < grid.heads_kv) return {1, heads};
  const std::int64_t entries = bytes / weights_bytes(grid, {1, heads});
  return {std::clamp<std::int64_t>(entries, 1, std::max<std::int64_t>(grid.batch, 1)), heads};
}

/// Weights [batch, X, Y, Z, heads, slots], dense.
View dense_weights(const Problem& grid, void* data) {
  View view;
  view.data = data;
  view.dtype = logsumexp_dtype(grid.dtype);
  view.head_stride = slots_per_query(grid);
  std::int64_t stride = view.head_stride * grid.heads;
  for (int a = 2; a >= 0; --a) {
    view.axis_stride[a] = stride;
    stride *= grid.layout[a];
  }
  view.batch_stride = stride;
  return view;
}

/// The heads and batch entries of a tensor from these on.
View from(View view, std::int64_t batch, std::int64_t head) {
  if (!view) return view;
  const std::int64_t elements = view.offset(batch, 0, 0, 0, head);
  view.data = static_cast<std::byte*>(view.data) + elements * static_cast<std::int64_t>(size_of(view.dtype));
  return view;
}

/// Calls visit(problem, first batch entry, first query head, first key/value head) for all parts. The problem has its
/// scale set.
template <class Visit>
void for_each_part(const Problem& grid, const Part& size, Visit visit) {
  const std::int64_t share = grid.heads / grid.heads_kv;
  for (std::int64_t b = 0; b < grid.batch; b += size.batch) {
    for (std::int64_t g = 0; g < grid.heads_kv; g += size.heads_kv) {
      Problem part = grid;
      part.batch = std::min(size.batch, grid.batch - b);
      part.heads_kv = std::min(size.heads_kv, grid.heads_kv - g);
      part.heads = part.heads_kv * share;
      part.scale = grid.effective_scale();
      visit(part, b, g * share, g);
    }
  }
}

/// The same problem with rows of the value dim and no scale: what its products with values are.
Problem of_values(Problem problem) {
  problem.dim = problem.dim_v;
  problem.scale = 1.0;
  return problem;
}

}  // namespace

std::size_t forward_workspace(const Problem& grid) {
  return static_cast<std::size_t>(weights_bytes(grid, part_of(grid, kWorkspaceBytes)));
}

std::size_t backward_workspace(const Problem& grid) {
  return static_cast<std::size_t>(2 * weights_bytes(grid, part_of(grid, kWorkspaceBytes / 2)));
}

void pointwise_neighborhood(const Operators& operators, const Problem& grid, const PointwiseNeighborhoodViews& tensors,
                            void* stream) {
  if (tiled_supports(grid).ok()) {
    const Tiling tiling = tiled_tiling(grid);
    if (tiled_pointwise_seconds(grid, tiling) < pointwise_seconds(grid)) {
      operators.tiled_pointwise_neighborhood(grid, tiling, tensors, stream);
      return;
    }
  }
  operators.pointwise_neighborhood(grid, tensors, stream);
}

void forward(const Operators& operators, const Problem& grid, const ForwardViews& t, const Execution& execution) {
  void* stream = execution.stream;
  for_each_part(grid, part_of(grid, kWorkspaceBytes), [&](const Problem& part, auto b, auto h, auto g) {
    const View weights = dense_weights(part, execution.workspace);
    pointwise_neighborhood(operators, part,
                           {.query = from(t.query, b, h),
                            .key = from(t.key, b, g),
                            .extra_key = from(t.extra_key, b, g),
                            .bias = {},
                            .weights = weights},
                           stream);
    operators.softmax(part, {.weights = weights, .logsumexp = from(t.logsumexp, b, h)}, stream);
    operators.neighborhood_neighborhood(of_values(part),
                                        {.weights = weights,
                                         .value = from(t.value, b, g),
                                         .extra_value = from(t.extra_value, b, g),
                                         .output = from(t.output, b, h)},
                                        stream);
  });
}

void backward(const Operators& operators, const Problem& grid, const BackwardViews& t, const Execution& execution) {
  void* stream = execution.stream;
  const Part size = part_of(grid, kWorkspaceBytes / 2);
  auto* second = static_cast<std::byte*>(execution.workspace) + weights_bytes(grid, size);
  for_each_part(grid, size, [&](const Problem& part, auto b, auto h, auto g) {
    const Problem values = of_values(part);
    const View weights = dense_weights(part, execution.workspace);
    const View grad_weights = dense_weights(part, second);
    const View query = from(t.query, b, h), key = from(t.key, b, g), extra_key = from(t.extra_key, b, g);
    const View grad_output = from(t.grad_output, b, h);
    pointwise_neighborhood(
        operators, part, {.query = query, .key = key, .extra_key = extra_key, .bias = {}, .weights = weights}, stream);
    pointwise_neighborhood(operators, values,
                           {.query = grad_output,
                            .key = from(t.value, b, g),
                            .extra_key = from(t.extra_value, b, g),
                            .bias = {},
                            .weights = grad_weights,
                            .masked = MaskedScore::zero},
                           stream);
    operators.softmax_gradient(part,
                               {.weights = weights,
                                .grad_weights = grad_weights,
                                .output = from(t.output, b, h),
                                .grad_output = grad_output,
                                .logsumexp = from(t.logsumexp, b, h),
                                .grad_logsumexp = from(t.grad_logsumexp, b, h)},
                               stream);
    operators.neighborhood_neighborhood(
        part, {.weights = grad_weights, .value = key, .extra_value = extra_key, .output = from(t.grad_query, b, h)},
        stream);
    operators.inverse_neighborhood(part,
                                   {.weights = grad_weights,
                                    .grad_output = query,
                                    .grad_value = from(t.grad_key, b, g),
                                    .grad_extra_value = from(t.grad_extra_key, b, g)},
                                   stream);
    operators.inverse_neighborhood(values,
                                   {.weights = weights,
                                    .grad_output = grad_output,
                                    .grad_value = from(t.grad_value, b, g),
                                    .grad_extra_value = from(t.grad_extra_value, b, g)},
                                   stream);
  });
}

}  // namespace vicinal::cuda::naive
