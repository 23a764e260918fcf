#include "cuda/fused_sm90/forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/common/tensor_map.h"
#include "cuda/fused_sm90/forward_parameters.h"

namespace vicinal::cuda::sm90 {
namespace {

/// Whether rows of a tensor begin at multiples of 16 bytes.
bool aligned(const View& view, std::int64_t dim) {
  constexpr std::int64_t kBytes = kTensorMapAlignment;
  const auto size = static_cast<std::int64_t>(size_of(view.dtype));
  const auto fits = [=](std::int64_t stride) { return stride * size % kBytes == 0; };
  return reinterpret_cast<std::uintptr_t>(view.data) % kBytes == 0 && dim * size % kBytes == 0 &&
         fits(view.batch_stride) && fits(view.head_stride) && std::ranges::all_of(view.axis_stride, fits);
}

/// Whether the copy engine can read a tensor: it wants alignment, takes no negative strides, and has coordinates of 32
/// bits, of which that of the head is counted in elements.
bool takes(const View& view, std::int64_t dim, std::int64_t heads) {
  constexpr std::int64_t kMostStride = (std::int64_t{1} << 40) - 1;
  const auto size = static_cast<std::int64_t>(size_of(view.dtype));
  const auto fits = [=](std::int64_t stride) { return stride >= 0 && stride * size <= kMostStride; };
  return aligned(view, dim) && fits(view.batch_stride) && std::ranges::all_of(view.axis_stride, fits) &&
         view.head_stride >= 0 && (heads - 1) * view.head_stride + dim <= std::numeric_limits<std::int32_t>::max();
}

/// The rows of a tensor: axis 0 holds the heads one after another.
struct Rows {
  const View& view;
  std::int64_t dim;
  std::int64_t heads;
  PerAxis<std::int64_t> extent;
  std::int64_t batch;
};

CUtensorMap map_of(const Rows& rows, int columns, const std::array<int, 3>& box, const PerAxis<std::int64_t>& step) {
  BoxedTensor tensor{.data = rows.view.data, .dtype = rows.view.dtype};
  tensor.extent = {(rows.heads - 1) * rows.view.head_stride + rows.dim, rows.extent[2], rows.extent[1], rows.extent[0],
                   rows.batch};
  tensor.stride = {rows.view.axis_stride[2], rows.view.axis_stride[1], rows.view.axis_stride[0],
                   rows.view.batch_stride};
  tensor.box = {columns, box[2], box[1], box[0], 1};
  for (int a = 0; a < 3; ++a) {
    if (box[2 - a] > 1) tensor.step[a + 1] = static_cast<int>(step[2 - a]);
  }
  return tensor_map(tensor);
}

Source source(const Rows& rows, const std::array<int, 3>& box, const PerAxis<std::int64_t>& step, bool by_copy_engine) {
  Source result{.full = {}, .rest = {}, .view = rows.view};
  if (!by_copy_engine) return result;
  const int rest = static_cast<int>(rows.dim % kChunk);
  if (rows.dim >= kChunk) result.full = map_of(rows, kChunk, box, step);
  if (rest != 0) result.rest = map_of(rows, rest, box, step);
  return result;
}

ForwardLaunch instance(const Problem& grid, int warpgroups) {
  static const std::array<const ForwardLaunch*, kForwardClasses.size()> fp16{
      &kForwardFp16Dim32x1, &kForwardFp16Dim32x2,  &kForwardFp16Dim64x1,  &kForwardFp16Dim64x2,  &kForwardFp16Dim64x3,
      &kForwardFp16Dim96x2, &kForwardFp16Dim128x2, &kForwardFp16Dim192x2, &kForwardFp16Dim256x2};
  static const std::array<const ForwardLaunch*, kForwardClasses.size()> bf16{
      &kForwardBf16Dim32x1, &kForwardBf16Dim32x2,  &kForwardBf16Dim64x1,  &kForwardBf16Dim64x2,  &kForwardBf16Dim64x3,
      &kForwardBf16Dim96x2, &kForwardBf16Dim128x2, &kForwardBf16Dim192x2, &kForwardBf16Dim256x2};
  const std::size_t index = forward_class(class_dim(std::max(grid.dim, grid.dim_v)), warpgroups);
  return *(grid.dtype == DType::fp16 ? fp16 : bf16)[index];
}

}  // namespace

void forward(const Problem& grid, const Tiling& tiling, const ForwardViews& tensors, const Execution& execution) {
  ForwardParameters p{};
  p.grid = TiledGrid(grid, tiling);

  const Rows query{tensors.query, grid.dim, grid.heads, grid.layout, grid.batch};
  const Rows key{tensors.key, grid.dim, grid.heads_kv, grid.layout, grid.batch};
  const Rows value{tensors.value, grid.dim_v, grid.heads_kv, grid.layout, grid.batch};
  const PerAxis<std::int64_t> extras{1, 1, grid.extra_kv};
  const Rows extra_key{tensors.extra_key, grid.dim, grid.heads_kv, extras, grid.batch};
  const Rows extra_value{tensors.extra_value, grid.dim_v, grid.heads_kv, extras, grid.batch};

  p.by_copy_engine = true;
  p.wide_copies = true;
  for (const Rows* rows : {&query, &key, &value, &extra_key, &extra_value}) {
    if (!rows->view) continue;
    p.by_copy_engine = p.by_copy_engine && takes(rows->view, rows->dim, rows->heads);
    p.wide_copies = p.wide_copies && aligned(rows->view, rows->dim);
  }
  p.wide_stores = aligned(tensors.output, grid.dim_v);

  const auto box_of = [](const TileShape& shape) { return std::array{shape.box[0], shape.box[1], shape.box[2]}; };
  p.query = source(query, box_of(p.grid.queries), grid.dilation, p.by_copy_engine);
  p.key = source(key, box_of(p.grid.keys), grid.dilation, p.by_copy_engine);
  p.value = source(value, box_of(p.grid.keys), grid.dilation, p.by_copy_engine);
  if (grid.extra_kv > 0) {
    const std::array box{1, 1, p.grid.keys.volume};
    p.extra_key = source(extra_key, box, {1, 1, 1}, p.by_copy_engine);
    p.extra_value = source(extra_value, box, {1, 1, 1}, p.by_copy_engine);
  }
  p.output = tensors.output;
  p.logsumexp = tensors.logsumexp;
  p.dim = static_cast<int>(grid.dim);
  p.dim_v = static_cast<int>(grid.dim_v);

  constexpr double kLog2E = 1.4426950408889634;
  const double scale = grid.effective_scale();
  p.log2_scale = static_cast<float>(std::abs(scale) * kLog2E);
  p.sign = scale > 0 ? 1.0F : -1.0F;
  if (p.log2_scale < std::numeric_limits<float>::min()) {  // 0 times a masked score would be NaN
    p.log2_scale = static_cast<float>(kLog2E);
    p.sign = 0;
  }
  instance(grid, p.grid.warpgroups)(grid, p, execution.stream);
}

}  // namespace vicinal::cuda::sm90
