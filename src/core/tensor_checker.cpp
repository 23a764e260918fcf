#include "core/tensor_checker.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/slots.h"
#include "core/tensors.h"

namespace vicinal {
namespace {

using Shape = Expectation::Shape;
using Heads = Expectation::Heads;
using Row = Expectation::Row;
using Presence = Expectation::Presence;
using Access = Expectation::Access;

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 62;

std::string name_of_device(const Device& device) {
  if (device.type == DeviceType::cpu) return "cpu";
  return fmt::format("{}:{}", name_of(device.type), device.index);
}

bool is_empty(const Tensor& tensor) {
  const auto sizes = std::span(tensor.sizes).first(tensor.rank);
  return std::find(sizes.begin(), sizes.end(), 0) != sizes.end();
}

std::uint64_t magnitude(std::int64_t value) {
  return value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
}

/// The dimensions in words: "batch, *layout, heads, dim".
std::string words_for(const Expectation& expected) {
  if (expected.shape == Shape::bias) return "heads, 2 * window - 1 per axis";
  std::string words = expected.shape == Shape::extra ? "batch, extra_kv, " : "batch, *layout, ";
  words += expected.heads == Heads::query ? "heads" : "heads_kv";
  switch (expected.row) {
    case Row::none: break;
    case Row::dim: return words + ", dim";
    case Row::dim_v: return words + ", dim_v";
    case Row::slots: return words + ", prod(window) + extra_kv";
  }
  return words;
}

Status check_strides(const Expectation& expected, const Tensor& tensor) {
  if (is_empty(tensor)) return {};  // strides lead nowhere; NumPy gives zeros
  const int last = tensor.rank - 1;
  if (expected.row != Row::none && tensor.sizes[last] > 1 && tensor.strides[last] != 1) {
    return Status::refuse(fmt::format("{} has stride {} along its last dimension; allowed: 1 (contiguous)",
                                      expected.name, tensor.strides[last]));
  }
  if (expected.access == Access::read) return {};

  // A written tensor must not overlap itself: taken from the smallest stride up, each stride steps over all that the
  // smaller ones reach. Any permutation or slice of dense memory passes.
  std::array<int, kMaxTensorRank> order{};
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return magnitude(tensor.strides[a]) < magnitude(tensor.strides[b]); });
  std::uint64_t reach = 0;  // elements between the lowest and the highest so far
  for (const int dimension : order) {
    const std::int64_t extent = dimension < tensor.rank ? tensor.sizes[dimension] : 1;
    if (extent == 1) continue;
    const std::uint64_t stride = magnitude(tensor.strides[dimension]);
    if (stride <= reach) {
      return Status::refuse(fmt::format(
          "{} has stride {} along dimension {} of extent {}, so that its elements overlap; allowed for a tensor that "
          "is written: strides under which no two elements share memory",
          expected.name, tensor.strides[dimension], dimension, extent));
    }
    const auto steps = static_cast<std::uint64_t>(extent - 1);
    if (stride > kMostBytes / steps) return {};  // check_address has the better message
    reach += stride * steps;
  }
  return {};
}

Status address_overflow(const Expectation& expected, const Tensor& tensor) {
  return Status::refuse(fmt::format(
      "{} with shape [{}] and strides [{}] reaches beyond the address space; allowed: byte offsets below 2^62",
      expected.name, fmt::join(std::span(tensor.sizes).first(tensor.rank), ", "),
      fmt::join(std::span(tensor.strides).first(tensor.rank), ", ")));
}

Status check_address(const Expectation& expected, const Tensor& tensor) {
  if (is_empty(tensor)) return {};
  if (tensor.data == nullptr) {
    return Status::refuse(
        fmt::format("{} has no data (a null pointer); allowed: the address of its first element", expected.name));
  }
  const std::size_t element = size_of(tensor.dtype);
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data);
  if (address % element != 0) {
    return Status::refuse(fmt::format("{} has its data at {}; allowed: a multiple of its element size, {} bytes",
                                      expected.name, fmt::ptr(tensor.data), element));
  }
  // The bytes below and above the first element that strides reach, which must not wrap around the address space.
  std::uint64_t below = 0;
  std::uint64_t above = element - 1;
  for (int i = 0; i < tensor.rank; ++i) {
    const std::uint64_t steps = static_cast<std::uint64_t>(tensor.sizes[i] - 1);
    if (steps == 0) continue;
    const std::uint64_t stride = magnitude(tensor.strides[i]);
    std::uint64_t& side = tensor.strides[i] < 0 ? below : above;
    const std::uint64_t room = kMostBytes - side;
    if (stride > room / element / steps) return address_overflow(expected, tensor);
    side += stride * steps * element;
  }
  if (below > address || above > std::numeric_limits<std::uintptr_t>::max() - address) {
    return address_overflow(expected, tensor);
  }
  return {};
}

/// Strides of axes of extent 1 are 0, whatever the tensor says.
std::int64_t stride_of(const Tensor& tensor, int dimension) {
  return tensor.sizes[dimension] > 1 ? tensor.strides[dimension] : 0;
}

}  // namespace

View TensorChecker::view(const Expectation& expected, const Tensor& tensor) {
  if (!accept(expected, tensor)) return {};
  View view;
  view.data = tensor.data;
  view.dtype = tensor.dtype;
  view.batch_stride = stride_of(tensor, 0);
  const int head = expected.row == Row::none ? tensor.rank - 1 : tensor.rank - 2;
  view.head_stride = stride_of(tensor, head);
  for (int axis = 2, i = head - 1; i > 0; --axis, --i) view.axis_stride[axis] = stride_of(tensor, i);
  return view;
}

BiasView TensorChecker::bias_view(const Expectation& expected, const Tensor& tensor) {
  if (!accept(expected, tensor)) return {};
  BiasView view;
  view.data = tensor.data;
  view.dtype = tensor.dtype;
  view.head_stride = stride_of(tensor, 0);
  for (int axis = 2, i = tensor.rank - 1; i > 0; --axis, --i) view.axis_stride[axis] = stride_of(tensor, i);
  return view;
}

bool TensorChecker::accept(const Expectation& expected, const Tensor& tensor) {
  if (!status_.ok()) return false;
  status_ = check(expected, tensor);
  if (!status_.ok() || !tensor.present()) return false;
  remember(expected, tensor);
  return status_.ok();
}

DType TensorChecker::dtype_of(const Expectation& expected) const {
  return expected.shape == Shape::logsumexp ? logsumexp_dtype(problem_.dtype) : problem_.dtype;
}

std::int64_t TensorChecker::row_of(const Expectation& expected) const {
  switch (expected.row) {
    case Row::none: break;
    case Row::dim: return problem_.dim;
    case Row::dim_v: return problem_.dim_v;
    case Row::slots: return slots_per_query(problem_);
  }
  return 0;
}

int TensorChecker::shape_of(const Expectation& expected, std::array<std::int64_t, kMaxTensorRank>& sizes) const {
  int rank = 0;
  const std::int64_t heads = expected.heads == Heads::query ? problem_.heads : problem_.heads_kv;
  if (expected.shape == Shape::bias) {
    sizes[rank++] = heads;
    for (int a = 0; a < problem_.rank; ++a) sizes[rank++] = 2 * problem_.window[a] - 1;
    return rank;
  }
  sizes[rank++] = problem_.batch;
  if (expected.shape == Shape::extra) {
    sizes[rank++] = problem_.extra_kv;
  } else {
    for (int a = 0; a < problem_.rank; ++a) sizes[rank++] = problem_.layout[a];
  }
  sizes[rank++] = heads;
  if (expected.row != Row::none) sizes[rank++] = row_of(expected);
  return rank;
}

Status TensorChecker::check(const Expectation& expected, const Tensor& tensor) const {
  if (!tensor.present()) {
    if (expected.presence != Presence::required) return {};
    return Status::refuse(fmt::format("{} is absent; allowed: a tensor", expected.name));
  }
  if (expected.presence == Presence::absent) {
    return Status::refuse(fmt::format("{} is given, but extra_kv = 0; allowed: no such tensor", expected.name));
  }
  if (tensor.dtype != dtype_of(expected)) {
    return Status::refuse(fmt::format("{} has dtype {}; allowed: {} in this {} problem", expected.name,
                                      name_of(tensor.dtype), name_of(dtype_of(expected)), name_of(problem_.dtype)));
  }
  if (tensor.device != problem_.device) {
    return Status::refuse(fmt::format("{} is on device {}; allowed: {}, the device of the problem", expected.name,
                                      name_of_device(tensor.device), name_of_device(problem_.device)));
  }
  if (Status s = check_shape(expected, tensor); !s.ok()) return s;
  if (Status s = check_strides(expected, tensor); !s.ok()) return s;
  return check_address(expected, tensor);
}

Status TensorChecker::check_shape(const Expectation& expected, const Tensor& tensor) const {
  std::array<std::int64_t, kMaxTensorRank> sizes{};
  const int rank = shape_of(expected, sizes);
  if (tensor.rank == rank && std::equal(sizes.begin(), sizes.begin() + rank, tensor.sizes.begin())) return {};
  const int shown = std::clamp(tensor.rank, 0, kMaxTensorRank);
  return Status::refuse(fmt::format("{} has shape [{}]; allowed: [{}], which is [{}]", expected.name,
                                    fmt::join(std::span(tensor.sizes).first(shown), ", "),
                                    fmt::join(std::span(sizes).first(rank), ", "), words_for(expected)));
}

// Two tensors of which one is written may interleave (slices of one packed gradient) but not start at one address.
void TensorChecker::remember(const Expectation& expected, const Tensor& tensor) {
  const bool written = expected.access == Access::written;
  for (int i = 0; i < seen_count_ && problem_.batch > 0; ++i) {
    if (seen_[i].data == tensor.data && (written || seen_[i].written)) {
      status_ =
          Status::refuse(fmt::format("{} starts at the address of {}; allowed for a tensor that is written: "
                                     "memory of its own",
                                     expected.name, seen_[i].name));
      return;
    }
  }
  seen_[seen_count_++] = {expected.name, tensor.data, written};
}

}  // namespace vicinal
