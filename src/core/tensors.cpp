#include "core/tensors.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vicinal {
namespace {

constexpr std::size_t kWorkspaceAlignment = 64;

/// What the dimensions between batch and heads are.
enum class Tokens { grid, extra };

/// What one tensor must look like.
struct Expectation {
  std::string_view name;
  Tokens tokens = Tokens::grid;
  std::int64_t heads = 1;
  std::int64_t dim = 0;  // 0: no head dim, as in logsumexp
  enum class Presence { required, optional, absent } presence = Presence::required;
  enum class Access { read, written } access = Access::read;
};

std::string name_of_device(const Device& device) {
  if (device.type == DeviceType::cpu) return "cpu";
  return fmt::format("{}:{}", name_of(device.type), device.index);
}

bool is_empty(const Tensor& tensor) {
  const auto sizes = std::span(tensor.sizes).first(tensor.rank);
  return std::find(sizes.begin(), sizes.end(), 0) != sizes.end();
}

/// Checks tensors one after the other and remembers the first reason to refuse.
class Checker {
 public:
  explicit Checker(const Problem& problem) : problem_(problem) {}

  /// The view of a tensor that is as expected; else an empty view, and the status says why.
  View view(const Expectation& expected, const Tensor& tensor) {
    if (!status_.ok()) return {};
    status_ = check(expected, tensor);
    if (!status_.ok() || !tensor.present()) return {};
    remember(expected, tensor);
    return status_.ok() ? make_view(expected, tensor) : View{};
  }

  [[nodiscard]] const Status& status() const { return status_; }

 private:
  struct Seen {
    std::string_view name;
    const void* data;
    bool written;
  };

  [[nodiscard]] DType dtype_of(const Expectation& expected) const {
    return expected.dim == 0 ? logsumexp_dtype(problem_.dtype) : problem_.dtype;
  }

  [[nodiscard]] int shape_of(const Expectation& expected, std::array<std::int64_t, kMaxTensorRank>& sizes) const {
    int rank = 0;
    sizes[rank++] = problem_.batch;
    if (expected.tokens == Tokens::extra) {
      sizes[rank++] = problem_.extra_kv;
    } else {
      for (int a = 0; a < problem_.rank; ++a) sizes[rank++] = problem_.layout[a];
    }
    sizes[rank++] = expected.heads;
    if (expected.dim > 0) sizes[rank++] = expected.dim;
    return rank;
  }

  [[nodiscard]] Status check(const Expectation& expected, const Tensor& tensor) const {
    using Presence = Expectation::Presence;
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

  [[nodiscard]] Status check_shape(const Expectation& expected, const Tensor& tensor) const {
    std::array<std::int64_t, kMaxTensorRank> sizes{};
    const int rank = shape_of(expected, sizes);
    if (tensor.rank == rank && std::equal(sizes.begin(), sizes.begin() + rank, tensor.sizes.begin())) return {};
    const int shown = std::clamp(tensor.rank, 0, kMaxTensorRank);
    return Status::refuse(fmt::format("{} has shape [{}]; allowed: [{}], which is [batch, {}, {}{}]", expected.name,
                                      fmt::join(std::span(tensor.sizes).first(shown), ", "),
                                      fmt::join(std::span(sizes).first(rank), ", "),
                                      expected.tokens == Tokens::extra ? "extra_kv" : "*layout",
                                      expected.heads == problem_.heads ? "heads" : "heads_kv",
                                      expected.dim == 0 ? "" : (expected.dim == problem_.dim ? ", dim" : ", dim_v")));
  }

  [[nodiscard]] Status check_strides(const Expectation& expected, const Tensor& tensor) const {
    if (is_empty(tensor)) return {};  // strides lead nowhere; NumPy gives zeros
    const int last = tensor.rank - 1;
    if (expected.dim > 1 && tensor.strides[last] != 1) {
      return Status::refuse(fmt::format("{} has stride {} along its last dimension; allowed: 1 (contiguous)",
                                        expected.name, tensor.strides[last]));
    }
    if (expected.access == Expectation::Access::read) return {};

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

  [[nodiscard]] Status check_address(const Expectation& expected, const Tensor& tensor) const {
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

  [[nodiscard]] static Status address_overflow(const Expectation& expected, const Tensor& tensor) {
    return Status::refuse(fmt::format(
        "{} with shape [{}] and strides [{}] reaches beyond the address space; allowed: byte offsets below 2^62",
        expected.name, fmt::join(std::span(tensor.sizes).first(tensor.rank), ", "),
        fmt::join(std::span(tensor.strides).first(tensor.rank), ", ")));
  }

  // Two tensors of which one is written may interleave (slices of one packed gradient) but not start at one address.
  void remember(const Expectation& expected, const Tensor& tensor) {
    const bool written = expected.access == Expectation::Access::written;
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

  [[nodiscard]] static View make_view(const Expectation& expected, const Tensor& tensor) {
    const auto stride = [&](int i) { return tensor.sizes[i] > 1 ? tensor.strides[i] : 0; };
    View view;
    view.data = tensor.data;
    view.dtype = tensor.dtype;
    view.batch_stride = stride(0);
    const int head = expected.dim > 0 ? tensor.rank - 2 : tensor.rank - 1;
    view.head_stride = stride(head);
    for (int axis = 2, i = head - 1; i > 0; --axis, --i) view.axis_stride[axis] = stride(i);
    return view;
  }

  static std::uint64_t magnitude(std::int64_t value) {
    return value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  }

  static constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 62;
  static constexpr int kMostTensors = 14;  // of a backward pass

  const Problem& problem_;
  Status status_;
  std::array<Seen, kMostTensors> seen_{};
  int seen_count_ = 0;
};

}  // namespace

Status check_tensors(const Problem& problem, const ForwardTensors& tensors, ForwardViews& views) {
  using enum Expectation::Presence;
  using enum Expectation::Access;
  const auto& p = problem;
  const auto with_extra = p.extra_kv > 0 ? required : absent;
  Checker checker(problem);
  views = {
      .query = checker.view({"query", Tokens::grid, p.heads, p.dim}, tensors.query),
      .key = checker.view({"key", Tokens::grid, p.heads_kv, p.dim}, tensors.key),
      .value = checker.view({"value", Tokens::grid, p.heads_kv, p.dim_v}, tensors.value),
      .extra_key = checker.view({"extra_key", Tokens::extra, p.heads_kv, p.dim, with_extra}, tensors.extra_key),
      .extra_value = checker.view({"extra_value", Tokens::extra, p.heads_kv, p.dim_v, with_extra}, tensors.extra_value),
      .output = checker.view({"output", Tokens::grid, p.heads, p.dim_v, required, written}, tensors.output),
      .logsumexp = checker.view({"logsumexp", Tokens::grid, p.heads, 0, optional, written}, tensors.logsumexp),
  };
  return checker.status();
}

Status check_tensors(const Problem& problem, const BackwardTensors& tensors, BackwardViews& views) {
  using enum Expectation::Presence;
  using enum Expectation::Access;
  const auto& p = problem;
  const auto& t = tensors;
  const auto extra = p.extra_kv > 0 ? required : absent;
  Checker checker(problem);
  views = {
      .query = checker.view({"query", Tokens::grid, p.heads, p.dim}, t.query),
      .key = checker.view({"key", Tokens::grid, p.heads_kv, p.dim}, t.key),
      .value = checker.view({"value", Tokens::grid, p.heads_kv, p.dim_v}, t.value),
      .extra_key = checker.view({"extra_key", Tokens::extra, p.heads_kv, p.dim, extra}, t.extra_key),
      .extra_value = checker.view({"extra_value", Tokens::extra, p.heads_kv, p.dim_v, extra}, t.extra_value),
      .output = checker.view({"output", Tokens::grid, p.heads, p.dim_v}, t.output),
      .logsumexp = checker.view({"logsumexp", Tokens::grid, p.heads, 0}, t.logsumexp),
      .grad_output = checker.view({"grad_output", Tokens::grid, p.heads, p.dim_v}, t.grad_output),
      .grad_logsumexp = checker.view({"grad_logsumexp", Tokens::grid, p.heads, 0, optional}, t.grad_logsumexp),
      .grad_query = checker.view({"grad_query", Tokens::grid, p.heads, p.dim, required, written}, t.grad_query),
      .grad_key = checker.view({"grad_key", Tokens::grid, p.heads_kv, p.dim, required, written}, t.grad_key),
      .grad_value = checker.view({"grad_value", Tokens::grid, p.heads_kv, p.dim_v, required, written}, t.grad_value),
      .grad_extra_key =
          checker.view({"grad_extra_key", Tokens::extra, p.heads_kv, p.dim, extra, written}, t.grad_extra_key),
      .grad_extra_value =
          checker.view({"grad_extra_value", Tokens::extra, p.heads_kv, p.dim_v, extra, written}, t.grad_extra_value),
  };
  return checker.status();
}

Status check_execution(const Plan& plan, const Execution& execution) {
  if (execution.threads < 0) {
    return Status::refuse(
        fmt::format("threads = {}; allowed: 0 (as many as OpenMP would use) or more", execution.threads));
  }
  if (plan.workspace_bytes == 0) return {};
  if (execution.workspace_bytes < plan.workspace_bytes) {
    return Status::refuse(fmt::format("workspace_bytes = {}; allowed: at least the plan's workspace_bytes = {}",
                                      execution.workspace_bytes, plan.workspace_bytes));
  }
  if (execution.workspace == nullptr) {
    return Status::refuse(fmt::format("workspace is null; allowed: the address of {} bytes", plan.workspace_bytes));
  }
  if (reinterpret_cast<std::uintptr_t>(execution.workspace) % kWorkspaceAlignment != 0) {
    return Status::refuse(fmt::format("workspace is at {}; allowed: a multiple of {} bytes",
                                      fmt::ptr(execution.workspace), kWorkspaceAlignment));
  }
  return {};
}

}  // namespace vicinal
