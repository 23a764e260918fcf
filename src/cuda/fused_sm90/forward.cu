#include "cuda/fused_sm90/forward.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "cuda/fused_sm90/cost_model.h"
#include "cuda/fused_sm90/parameters.h"
#include "cuda/fused_sm90/shift.h"

namespace vicinal::cuda::sm90 {
namespace {

constexpr std::array<const Launch*, kForwardClasses.size()> kFp16{
    &kForwardFp16Dim32x1, &kForwardFp16Dim32x2,  &kForwardFp16Dim64x1,  &kForwardFp16Dim64x2,
    &kForwardFp16Dim96x2, &kForwardFp16Dim128x2, &kForwardFp16Dim192x2, &kForwardFp16Dim256x2};
constexpr std::array<const Launch*, kForwardClasses.size()> kBf16{
    &kForwardBf16Dim32x1, &kForwardBf16Dim32x2,  &kForwardBf16Dim64x1,  &kForwardBf16Dim64x2,
    &kForwardBf16Dim96x2, &kForwardBf16Dim128x2, &kForwardBf16Dim192x2, &kForwardBf16Dim256x2};

constexpr std::array<const Launch*, kForwardPairsClasses.size()> kPairsFp16{&kForwardPairsFp16Dim32x1,
                                                                            &kForwardPairsFp16Dim32x2};
constexpr std::array<const Launch*, kForwardPairsClasses.size()> kPairsBf16{&kForwardPairsBf16Dim32x1,
                                                                            &kForwardPairsBf16Dim32x2};

Parameters forward_parameters(const Problem& grid, const Tiling& tiling, const ForwardViews& t, int joined_heads) {
  Parameters p = parameters_of(
      grid, tiling, RowKind::queries,
      {.row = {t.query}, .key = t.key, .value = t.value, .extra_key = t.extra_key, .extra_value = t.extra_value},
      joined_heads);
  p.rows[0] = t.output;
  p.rows[1] = t.logsumexp;
  for (View& view : p.rows) view.head_stride *= joined_heads;
  p.stored_bytes = stored_bytes(t.output, grid.dim_v);
  return p;
}

OddRows odd_rows_of(const Problem& grid, const ForwardViews& t) {
  OddRows rows;
  rows.add(OddRows::query, t.query, grid.dim);
  rows.add(OddRows::key, t.key, grid.dim);
  rows.add(OddRows::extra_key, t.extra_key, grid.dim);
  rows.add(OddRows::value, t.value, grid.dim_v);
  rows.add(OddRows::extra_value, t.extra_value, grid.dim_v);
  return rows;
}

/// Whether the vectors of heads follow each other in all tensors, with nothing between them.
bool heads_adjoin(const ForwardViews& t, std::int64_t dim) {
  return std::ranges::all_of(std::array{t.query, t.key, t.value, t.extra_key, t.extra_value, t.output},
                             [=](const View& view) { return !view || view.head_stride == dim; });
}

/// A tiling of pairs is one of single heads: both have the same boxes, for as many warpgroups.
constexpr bool is_class_of_single_heads(const KernelClass& pairs) {
  const std::size_t single = class_index(kForwardClasses, pairs.dim, pairs.warpgroups);
  return single < kForwardClasses.size() && kForwardClasses[single].columns == pairs.columns;
}
static_assert(std::ranges::all_of(kForwardPairsClasses, is_class_of_single_heads));

}  // namespace

void forward(const Problem& grid, const Tiling& tiling, const ForwardViews& t, const Execution& execution) {
  Parameters p = forward_parameters(grid, tiling, t, 1);
  p.odd_rows = odd_rows_of(grid, t);
  const std::size_t instance = instance_of(kForwardClasses, grid, p.grid.warpgroups);
  const KernelClass& size = kForwardClasses[instance];
  const Dealing dealing = dealing_of(grid, tiling, p.grid, Method::forward, size, RowKind::queries);
  share_columns(p.grid, size, dealing, p.by_copy_engine);
  (*(grid.dtype == DType::fp16 ? kFp16 : kBf16)[instance])(grid, p, dealing, execution.stream);
}

void forward_pairs(const Problem& grid, const Tiling& tiling, const ForwardViews& t, const Execution& execution) {
  if (!heads_adjoin(t, grid.dim)) return forward(grid, tiling, t, execution);
  const Parameters p = forward_parameters(grid, tiling, t, kPairedHeads);
  const std::size_t instance = instance_of(kForwardPairsClasses, grid, p.grid.warpgroups);
  const Dealing dealing =
      dealing_of(grid, tiling, p.grid, Method::forward_pairs, kForwardPairsClasses[instance], RowKind::queries);
  (*(grid.dtype == DType::fp16 ? kPairsFp16 : kPairsBf16)[instance])(grid, p, dealing, execution.stream);
}

}  // namespace vicinal::cuda::sm90
