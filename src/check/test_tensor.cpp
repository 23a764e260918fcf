#include "check/test_tensor.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "core/elements.h"

namespace vicinal::check {
namespace {

constexpr std::byte kPoison{0xff};

// Before and after the elements: more than a tile's row, and in all dtypes a multiple of what kernels load at once.
constexpr std::int64_t kMargin = 128;

}  // namespace

std::int64_t Shape::rows() const {
  return std::accumulate(outer.begin(), outer.end(), std::int64_t{1}, std::multiplies<>());
}

TestTensor::TestTensor(const Shape& shape, DType dtype, const Arrangement& arrangement)
    : shape_(shape), dtype_(dtype), strides_(shape.outer.size()) {
  const int heads = static_cast<int>(shape.outer.size()) - 1;
  const int last_token_axis = heads - 1;
  std::vector<int> order;  // from the fastest dimension to the slowest
  if (!arrangement.heads_first) order.push_back(heads);
  for (int d = last_token_axis; d > 0; --d) order.push_back(d);
  if (arrangement.heads_first) order.push_back(heads);
  order.push_back(0);

  const std::int64_t row = shape.row_elements() + arrangement.row_gap;
  std::int64_t stride = row;
  std::int64_t below = 0;  // elements of `memory_` before the first one, by negative strides
  for (const int d : order) {
    if (d == last_token_axis) stride += arrangement.token_gap * row;
    if (arrangement.broadcast >> d & 1) continue;
    strides_[d] = stride;
    if (arrangement.reversed >> d & 1) {
      strides_[d] = -stride;
      below += stride * std::max<std::int64_t>(0, shape.outer[d] - 1);
    }
    stride *= shape.outer[d];
  }
  origin_ = kMargin + arrangement.shift + below;
  memory_.assign(static_cast<std::size_t>(stride + arrangement.shift + 2 * kMargin) * size_of(dtype), kPoison);
}

Tensor TestTensor::tensor() {
  Tensor t;
  if (!present()) return t;
  t.data = memory_.data() + origin_ * static_cast<std::int64_t>(size_of(dtype_));
  t.dtype = dtype_;
  for (std::size_t d = 0; d < strides_.size(); ++d) {
    t.sizes[d] = shape_.outer[d];
    t.strides[d] = strides_[d];
  }
  t.rank = static_cast<int>(strides_.size());
  if (shape_.row > 0) {
    t.sizes[t.rank] = shape_.row;
    t.strides[t.rank] = 1;
    ++t.rank;
  }
  return t;
}

std::vector<std::int64_t> TestTensor::row_offsets() const {
  std::vector<std::int64_t> offsets;
  if (!present() || shape_.rows() == 0) return offsets;
  offsets.push_back(origin_);
  for (std::size_t d = 0; d < strides_.size(); ++d) {
    std::vector<std::int64_t> finer;
    finer.reserve(offsets.size() * static_cast<std::size_t>(shape_.outer[d]));
    for (const std::int64_t offset : offsets) {
      for (std::int64_t i = 0; i < shape_.outer[d]; ++i) finer.push_back(offset + i * strides_[d]);
    }
    offsets = std::move(finer);
  }
  return offsets;
}

void TestTensor::store(std::span<const double> values) {
  const auto row = static_cast<std::size_t>(shape_.row_elements());
  for (const std::int64_t offset : row_offsets()) {
    write_elements(memory_.data(), dtype_, offset, values.first(row));
    values = values.subspan(row);
  }
}

std::vector<double> TestTensor::load() const {
  const std::vector<std::int64_t> offsets = row_offsets();
  const auto row = static_cast<std::size_t>(shape_.row_elements());
  std::vector<double> values(offsets.size() * row);
  std::span<double> rest(values);
  for (const std::int64_t offset : offsets) {
    read_elements(memory_.data(), dtype_, offset, rest.first(row));
    rest = rest.subspan(row);
  }
  return values;
}

bool TestTensor::surroundings_intact() const {
  std::vector<std::byte> rest = memory_;
  const auto element = static_cast<std::int64_t>(size_of(dtype_));
  for (const std::int64_t offset : row_offsets()) {
    std::fill_n(rest.begin() + offset * element, shape_.row_elements() * element, kPoison);
  }
  return std::all_of(rest.begin(), rest.end(), [](std::byte byte) { return byte == kPoison; });
}

}  // namespace vicinal::check
