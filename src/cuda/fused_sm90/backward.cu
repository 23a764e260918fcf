#include "cuda/fused_sm90/backward.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "cuda/fused_sm90/cost_model.h"
#include "cuda/fused_sm90/delta.h"
#include "cuda/fused_sm90/extra_gradients.h"
#include "cuda/fused_sm90/parameters.h"
#include "cuda/fused_sm90/query_sums.h"
#include "cuda/fused_sm90/workspace_views.h"

namespace vicinal::cuda::sm90 {
namespace {

/// The passes of one class.
struct Passes {
  const Launch* over_queries;
  std::array<const Launch*, 2> over_keys;  ///< one, or two
};

constexpr std::array<Passes, kBackwardClasses.size()> kFp16{
    {{&kGradQueryFp16Dim32x1, {&kGradKeyValueFp16Dim32x1, nullptr}},
     {&kGradQueryFp16Dim64x1, {&kGradKeyValueFp16Dim64x1, nullptr}},
     {&kGradQueryFp16Dim64x2, {&kGradKeyValueFp16Dim64x2, nullptr}},
     {&kGradQueryFp16Dim96x2, {&kGradKeyValueFp16Dim96x2, nullptr}},
     {&kGradQueryFp16Dim128x2, {&kGradKeyValueFp16Dim128x2, nullptr}},
     {&kGradQueryFp16Dim192x2, {&kGradKeyFp16Dim192x2, &kGradValueFp16Dim192x2}},
     {&kGradQueryFp16Dim256x2, {&kGradKeyFp16Dim256x2, &kGradValueFp16Dim256x2}}}};
constexpr std::array<Passes, kBackwardClasses.size()> kBf16{
    {{&kGradQueryBf16Dim32x1, {&kGradKeyValueBf16Dim32x1, nullptr}},
     {&kGradQueryBf16Dim64x1, {&kGradKeyValueBf16Dim64x1, nullptr}},
     {&kGradQueryBf16Dim64x2, {&kGradKeyValueBf16Dim64x2, nullptr}},
     {&kGradQueryBf16Dim96x2, {&kGradKeyValueBf16Dim96x2, nullptr}},
     {&kGradQueryBf16Dim128x2, {&kGradKeyValueBf16Dim128x2, nullptr}},
     {&kGradQueryBf16Dim192x2, {&kGradKeyBf16Dim192x2, &kGradValueBf16Dim192x2}},
     {&kGradQueryBf16Dim256x2, {&kGradKeyBf16Dim256x2, &kGradValueBf16Dim256x2}}}};

constexpr std::array<const Launch*, kOnePassClasses.size()> kOnePassFp16{&kGradientsFp16Dim64x2,
                                                                         &kGradientsFp16Dim128x2};
constexpr std::array<const Launch*, kOnePassClasses.size()> kOnePassBf16{&kGradientsBf16Dim64x2,
                                                                         &kGradientsBf16Dim128x2};

/// What passes over keys read and write.
Parameters over_keys(const Problem& grid, const Tiling& tiling, const BackwardViews& t) {
  Parameters keys = parameters_of(
      grid, tiling, RowKind::keys,
      {.row = {t.key, t.value}, .key = t.query, .value = t.grad_output, .extra_key = {}, .extra_value = {}});
  keys.rows[0] = t.grad_key;
  keys.rows[1] = t.grad_value;
  keys.stored_bytes = std::min(stored_bytes(t.grad_key, grid.dim), stored_bytes(t.grad_value, grid.dim_v));
  return keys;
}

}  // namespace

void backward(const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
  const View delta = delta_view(grid, execution.workspace);
  Parameters keys = over_keys(grid, tiling, t);
  keys.statistics[0] = t.logsumexp;
  keys.statistics[1] = delta;
  const std::size_t instance = instance_of(kBackwardClasses, grid, keys.grid.warpgroups);
  const KernelClass& size = kBackwardClasses[instance];
  const auto dealing = [&](const Parameters& p, RowKind rows) {
    return dealing_of(grid, tiling, p.grid, Method::backward, size, rows);
  };
  const Passes& passes = (grid.dtype == DType::fp16 ? kFp16 : kBf16)[instance];

  const View output = may_make_delta(size) && !t.grad_logsumexp ? t.output : View{};
  Parameters queries = parameters_of(grid, tiling, RowKind::queries,
                                     {.row = {t.query, t.grad_output, output},
                                      .key = t.key,
                                      .value = t.value,
                                      .extra_key = t.extra_key,
                                      .extra_value = t.extra_value});
  queries.rows[0] = t.grad_query;
  queries.rows[1] = t.logsumexp;
  queries.rows[2] = delta;
  queries.stored_bytes = stored_bytes(t.grad_query, grid.dim);
  if (!queries.makes_delta) compute_delta(grid, t, delta, execution.stream);
  (*passes.over_queries)(grid, queries, dealing(queries, RowKind::queries), execution.stream);

  if (grid.extra_kv > 0) {
    void* partial = static_cast<std::byte*>(execution.workspace) + delta_bytes(grid);
    compute_extra_gradients(grid, t, delta, partial, execution.stream);
  }

  const Dealing of_keys = dealing(keys, RowKind::keys);
  for (const Launch* launch : passes.over_keys) {
    if (launch != nullptr) (*launch)(grid, keys, of_keys, execution.stream);
  }
}

void backward_one_pass(const Problem& grid, const Tiling& tiling, const BackwardViews& t, const Execution& execution) {
  auto* memory = static_cast<std::byte*>(execution.workspace);
  Parameters keys = over_keys(grid, tiling, t);
  for (View& bias : keys.statistics) {
    bias = delta_view(grid, memory);
    memory += delta_bytes(grid);
  }
  compute_biases(grid, t, keys.statistics[0], keys.statistics[1], execution.stream);

  void* sums = memory;
  clear_query_sums(grid, sums, execution.stream);
  keys.query_sums = query_sums(grid, keys.grid.columns, sums);
  const std::size_t instance = instance_of(kOnePassClasses, grid, keys.grid.warpgroups);
  const Dealing dealing =
      dealing_of(grid, tiling, keys.grid, Method::backward_one_pass, kOnePassClasses[instance], RowKind::keys);
  (*(grid.dtype == DType::fp16 ? kOnePassFp16 : kOnePassBf16)[instance])(grid, keys, dealing, execution.stream);
  round_query_sums(grid, sums, t.grad_query, execution.stream);
}

}  // namespace vicinal::cuda::sm90
