#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/alignment.h"
#include "cuda/common/tensor_map.h"
#include "cuda/fused_sm90/parameters.h"

namespace vicinal::cuda::sm90 {
namespace {

/// A tensor of tokens, of which a pass reads boxes.
struct Tokens {
  View view;
  std::int64_t dim;
  std::int64_t heads;
  PerAxis<std::int64_t> extent;
  std::int64_t batch;
};

/// The largest power of two, of bytes and at most 16, at multiples of which all vectors begin and end.
int row_alignment(const View& view, std::int64_t dim) {
  const std::size_t size = size_of(view.dtype);
  Alignment alignment;
  alignment.add(view.data);
  for (const std::int64_t elements : {view.batch_stride, view.head_stride, dim}) alignment.add(elements, size);
  for (const std::int64_t stride : view.axis_stride) alignment.add(stride, size);
  return static_cast<int>(alignment.bytes());
}
static_assert(kTensorMapAlignment == kMostAlignment);

/// Whether the copy engine can read a tensor. What `alignment_of` says of tensors rests on the same rules.
bool takes(const Tokens& tokens) {
  const View& view = tokens.view;
  const auto fits = [&](std::int64_t stride) { return copy_engine_takes_stride(stride, size_of(view.dtype)); };
  return row_alignment(view, tokens.dim) == kTensorMapAlignment && fits(view.batch_stride) &&
         std::ranges::all_of(view.axis_stride, fits) &&
         copy_engine_takes_heads(tokens.heads, view.head_stride, tokens.dim);
}

/// The same with every so many heads as one.
Tokens joined(Tokens tokens, int heads) {
  tokens.view.head_stride *= heads;
  tokens.dim *= heads;
  tokens.heads /= heads;
  return tokens;
}

/// Axis 0 of the map holds the heads one after another.
CUtensorMap map_of(const Tokens& tokens, int columns, const std::array<int, 3>& box,
                   const PerAxis<std::int64_t>& step) {
  const View& view = tokens.view;
  BoxedTensor tensor{.data = view.data, .dtype = view.dtype};
  tensor.extent = {(tokens.heads - 1) * view.head_stride + tokens.dim, tokens.extent[2], tokens.extent[1],
                   tokens.extent[0], tokens.batch};
  tensor.stride = {view.axis_stride[2], view.axis_stride[1], view.axis_stride[0], view.batch_stride};
  tensor.box = {columns, box[2], box[1], box[0], 1};
  for (int a = 0; a < 3; ++a) {
    if (box[2 - a] > 1) tensor.step[a + 1] = static_cast<int>(step[2 - a]);
  }
  return tensor_map(tensor);
}

Source source(const Tokens& tokens, const std::array<int, 3>& box, const PerAxis<std::int64_t>& step,
              bool by_copy_engine) {
  Source result{.full = {}, .rest = {}, .view = tokens.view};
  if (!by_copy_engine || !tokens.view) return result;
  const int rest = static_cast<int>(tokens.dim % kChunk);
  if (tokens.dim >= kChunk) result.full = map_of(tokens, kChunk, box, step);
  if (rest != 0) result.rest = map_of(tokens, rest, box, step);
  return result;
}

}  // namespace

int stored_bytes(const View& view, std::int64_t dim) {
  const int bytes = row_alignment(view, dim);
  return bytes == 8 ? 4 : bytes;
}

Parameters parameters_of(const Problem& grid, const Tiling& tiling, RowKind rows, const TileViews& views,
                         int joined_heads) {
  Parameters p{};
  Problem items = grid;
  items.heads /= joined_heads;
  items.heads_kv /= joined_heads;
  p.grid = TiledGrid(items, tiling, rows);

  const std::int64_t row_heads = rows == RowKind::queries ? grid.heads : grid.heads_kv;
  const std::int64_t column_heads = rows == RowKind::queries ? grid.heads_kv : grid.heads;
  const PerAxis<std::int64_t> extras{1, 1, grid.extra_kv};
  std::array row{Tokens{views.row[0], grid.dim, row_heads, grid.layout, grid.batch},
                 Tokens{views.row[1], grid.dim_v, row_heads, grid.layout, grid.batch},
                 Tokens{views.row[2], grid.dim_v, row_heads, grid.layout, grid.batch}};
  Tokens key{views.key, grid.dim, column_heads, grid.layout, grid.batch};
  Tokens value{views.value, grid.dim_v, column_heads, grid.layout, grid.batch};
  Tokens extra_key{views.extra_key, grid.dim, column_heads, extras, grid.batch};
  Tokens extra_value{views.extra_value, grid.dim_v, column_heads, extras, grid.batch};

  p.by_copy_engine = true;
  for (Tokens* tokens : {&row[0], &row[1], &key, &value, &extra_key, &extra_value}) {
    if (!tokens->view) continue;
    p.by_copy_engine = p.by_copy_engine && takes(*tokens);
    *tokens = joined(*tokens, joined_heads);
  }

  // Boxes that are walked take the producer longer than the kernel that makes delta otherwise.
  p.makes_delta = p.by_copy_engine && row[2].view && takes(row[2]) && p.grid.rows.copies == 1;
  if (!p.makes_delta) row[2].view = {};

  const auto box_of = [](const TileShape& shape) { return std::array{shape.box[0], shape.box[1], shape.box[2]}; };
  for (int t = 0; t < 3; ++t) p.row[t] = source(row[t], box_of(p.grid.rows), grid.dilation, p.by_copy_engine);
  p.key = source(key, box_of(p.grid.columns), grid.dilation, p.by_copy_engine);
  p.value = source(value, box_of(p.grid.columns), grid.dilation, p.by_copy_engine);
  const std::array extra_box{1, 1, p.grid.columns.volume};
  p.extra_key = source(extra_key, extra_box, {1, 1, 1}, p.by_copy_engine);
  p.extra_value = source(extra_value, extra_box, {1, 1, 1}, p.by_copy_engine);

  p.dim = static_cast<int>(grid.dim) * joined_heads;
  p.dim_v = static_cast<int>(grid.dim_v) * joined_heads;
  constexpr double kLog2OfE = 1.4426950408889634;
  const double scale = grid.effective_scale();
  p.scale = static_cast<float>(scale);
  p.log2_scale = static_cast<float>(std::abs(scale) * kLog2OfE);
  p.sign = scale > 0 ? 1.0F : -1.0F;
  if (p.log2_scale < std::numeric_limits<float>::min()) {  // 0 times a masked score would be NaN
    p.log2_scale = static_cast<float>(kLog2OfE);
    p.sign = 0;
  }
  return p;
}

std::size_t instance_of(std::span<const KernelClass> classes, const Problem& grid, int warpgroups) {
  return class_index(classes, class_dim(classes, std::max(grid.dim, grid.dim_v)), warpgroups);
}

}  // namespace vicinal::cuda::sm90
