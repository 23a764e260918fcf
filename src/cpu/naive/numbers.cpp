#include "cpu/naive/numbers.h"

namespace vicinal::cpu {
namespace {

template <class T>
void copy_in_numbers(const View& view, const Extents& extents, const View& copy, int threads) {
  const std::int64_t tokens = extents.axes[0] * extents.axes[1] * extents.axes[2];
  parallel_for(extents.batch * tokens, threads, [&](std::int64_t item, int) {
    const std::int64_t k = item % extents.axes[2];
    const std::int64_t j = item / extents.axes[2] % extents.axes[1];
    const std::int64_t i = item % tokens / extents.axes[2] / extents.axes[1];
    const std::int64_t b = item / tokens;
    for (std::int64_t h = 0; h < extents.heads; ++h) {
      const std::span<T> row(static_cast<T*>(copy.data) + copy.offset(b, i, j, k, h),
                             static_cast<std::size_t>(extents.row));
      read_elements(view.data, view.dtype, view.offset(b, i, j, k, h), row);
    }
  });
}

}  // namespace

View dense_view(const Extents& extents, void* data, DType dtype) {
  View view;
  view.data = data;
  view.dtype = dtype;
  std::int64_t stride = extents.row;
  view.head_stride = stride;
  stride *= extents.heads;
  for (int a = 2; a >= 0; --a) {
    view.axis_stride[a] = stride;
    stride *= extents.axes[a];
  }
  view.batch_stride = stride;
  return view;
}

View in_numbers(const View& view, const Extents& extents, void* memory, int threads) {
  if (!view || !is_narrow(view.dtype)) return view;
  const View copy = dense_view(extents, memory, DType::fp32);
  copy_in_numbers<float>(view, extents, copy, threads);
  return copy;
}

}  // namespace vicinal::cpu
