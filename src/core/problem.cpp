#include "vicinal/problem.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "core/sizes.h"
#include "vicinal/plan.h"

namespace vicinal {
namespace {

// Leaves room in float32 for the factors that kernels fold into the scale, such as log2(e).
constexpr double kLargestScale = 1e30;

template <class T>
std::string per_axis(const PerAxis<T>& values, int rank, std::string_view separator) {
  std::string text;
  for (int a = 0; a < rank; ++a) {
    if (a > 0) text += separator;
    text += fmt::format("{:d}", values[a]);
  }
  return text;
}

template <class T>
bool all_equal(const PerAxis<T>& values, int rank, T value) {
  for (int a = 0; a < rank; ++a) {
    if (values[a] != value) return false;
  }
  return true;
}

Status at_least(std::int64_t least, std::string_view name, std::int64_t value) {
  if (value >= least) return {};
  return Status::refuse(fmt::format("{} = {}; allowed: at least {}", name, value, least));
}

Status axis_is_valid(const Problem& problem, int axis) {
  const std::int64_t extent = problem.layout[axis];
  const std::int64_t window = problem.window[axis];
  const std::int64_t stride = problem.stride[axis];
  const std::int64_t dilation = problem.dilation[axis];
  for (const auto& [name, value] : {std::pair{"layout", extent}, {"window", window}, {"dilation", dilation}}) {
    if (value < 1) return Status::refuse(fmt::format("{}[{}] = {}; allowed: at least 1", name, axis, value));
  }
  if (window > extent / dilation) {
    const std::string covered = dilation == 1
                                    ? ""
                                    : fmt::format(" with dilation[{}] = {} covers {:.0f} tokens", axis, dilation,
                                                  static_cast<double>(window) * static_cast<double>(dilation));
    return Status::refuse(
        fmt::format("window[{0}] = {1}{2}, but layout[{0}] = {3}; allowed: window * dilation <= extent", axis, window,
                    covered, extent));
  }
  if (stride < 1 || stride > window) {
    return Status::refuse(fmt::format("stride[{0}] = {1}; allowed: 1 to window[{0}] = {2}", axis, stride, window));
  }
  return {};
}

Status too_large(std::string_view tensor, std::string_view shape) {
  return Status::refuse(fmt::format("{} with shape {} has too many elements for 64-bit indices; allowed: at most {}",
                                    tensor, shape, kMostElements));
}

Status index_fits(const Problem& problem) {
  const std::int64_t batch = problem.batch > 0 ? problem.batch : 1;
  const auto [x, y, z] = padded_to_rank_3(problem).layout;
  for (const auto& [dim, name] : {std::pair{problem.dim, "query"}, std::pair{problem.dim_v, "output"}}) {
    // heads_kv <= heads, so key and value are no larger.
    if (!product_fits({batch, x, y, z, problem.heads, dim})) {
      const std::string extents = per_axis(problem.layout, problem.rank, ", ");
      return too_large(name, fmt::format("[{}, {}, {}, {}]", problem.batch, extents, problem.heads, dim));
    }
  }
  const std::int64_t larger_dim = problem.dim > problem.dim_v ? problem.dim : problem.dim_v;
  if (problem.extra_kv > 0 && !product_fits({batch, problem.extra_kv, problem.heads_kv, larger_dim})) {
    return too_large("extra_key or extra_value",
                     fmt::format("[{}, {}, {}, {}]", problem.batch, problem.extra_kv, problem.heads_kv, larger_dim));
  }
  return {};
}

// Requires a valid problem. The bias needs no check: per axis 2 * window - 1 <= window * extent, so it has no more
// elements than the weights.
Status weights_fit(const Problem& problem) {
  const std::int64_t batch = problem.batch > 0 ? problem.batch : 1;
  const Problem grid = padded_to_rank_3(problem);
  const auto [x, y, z] = grid.layout;
  const auto [i, j, k] = grid.window;
  const bool window_fits = product_fits({i, j, k}) && problem.extra_kv <= kMostElements - i * j * k;
  if (window_fits && product_fits({batch, x, y, z, problem.heads, i * j * k + problem.extra_kv})) return {};
  return too_large("weights",
                   fmt::format("[{}, {}, {}, {} + {}]", problem.batch, per_axis(problem.layout, problem.rank, ", "),
                               problem.heads, per_axis(problem.window, problem.rank, " * "), problem.extra_kv));
}

}  // namespace

double Problem::effective_scale() const { return scale ? *scale : 1.0 / std::sqrt(static_cast<double>(dim)); }

std::int64_t Problem::tokens() const {
  std::int64_t product = 1;
  for (int a = 0; a < rank; ++a) product *= layout[a];
  return product;
}

Status validate(const Problem& problem) {
  if (problem.rank < 1 || problem.rank > 3) {
    return Status::refuse(fmt::format("rank = {}; allowed: 1 to 3", problem.rank));
  }
  if (problem.dtype > DType::bf16) {
    return Status::refuse(fmt::format("dtype = {}; allowed: fp64, fp32, fp16, bf16", static_cast<int>(problem.dtype)));
  }
  if (problem.device.type > DeviceType::cuda) {
    return Status::refuse(fmt::format("device.type = {}; allowed: cpu, cuda", static_cast<int>(problem.device.type)));
  }
  if (Status s = at_least(0, "device.index", problem.device.index); !s.ok()) return s;
  if (problem.device.type == DeviceType::cpu && problem.device.index != 0) {
    return Status::refuse(fmt::format("device.index = {} on the cpu; allowed: 0", problem.device.index));
  }
  if (problem.alignment < 1 || problem.alignment > kMostAlignment ||
      !std::has_single_bit(static_cast<std::uint64_t>(problem.alignment))) {
    return Status::refuse(fmt::format("alignment = {}; allowed: 1, 2, 4, 8, {}", problem.alignment, kMostAlignment));
  }
  if (Status s = at_least(0, "batch", problem.batch); !s.ok()) return s;
  if (Status s = at_least(1, "heads", problem.heads); !s.ok()) return s;
  if (Status s = at_least(1, "heads_kv", problem.heads_kv); !s.ok()) return s;
  if (problem.heads % problem.heads_kv != 0) {
    return Status::refuse(fmt::format("heads = {} with heads_kv = {}; allowed: heads a multiple of heads_kv",
                                      problem.heads, problem.heads_kv));
  }
  if (Status s = at_least(1, "dim", problem.dim); !s.ok()) return s;
  if (Status s = at_least(1, "dim_v", problem.dim_v); !s.ok()) return s;
  if (Status s = at_least(0, "extra_kv", problem.extra_kv); !s.ok()) return s;
  for (int a = 0; a < problem.rank; ++a) {
    if (Status s = axis_is_valid(problem, a); !s.ok()) return s;
  }
  if (problem.scale && !(std::abs(*problem.scale) <= kLargestScale)) {
    return Status::refuse(
        fmt::format("scale = {}; allowed: a finite number of magnitude at most {}", *problem.scale, kLargestScale));
  }
  return index_fits(problem);
}

Status validate(const Problem& problem, Operation operation) {
  if (operation > Operation::bias_gradient) {
    return Status::refuse(fmt::format("operation = {}; allowed: those of Operation", static_cast<int>(operation)));
  }
  if (Status s = validate(problem); !s.ok() || !is_unfused(operation)) return s;
  if (problem.dim_v != problem.dim) {
    return Status::refuse(fmt::format("dim_v = {} with dim = {}; allowed for {}: dim_v = dim", problem.dim_v,
                                      problem.dim, name_of(operation)));
  }
  return weights_fit(problem);
}

Problem padded_to_rank_3(const Problem& problem) {
  Problem padded = problem;
  padded.rank = 3;
  const int added = 3 - problem.rank;
  for (int a = 0; a < 3; ++a) {
    const bool leading = a < added;
    padded.layout[a] = leading ? 1 : problem.layout[a - added];
    padded.window[a] = leading ? 1 : problem.window[a - added];
    padded.stride[a] = leading ? 1 : problem.stride[a - added];
    padded.dilation[a] = leading ? 1 : problem.dilation[a - added];
    padded.causal[a] = leading ? false : problem.causal[a - added];
  }
  return padded;
}

std::string to_string(const Problem& problem) {
  const int rank = problem.rank;
  std::string text =
      fmt::format("--layout {} --window {}", per_axis(problem.layout, rank, "x"), per_axis(problem.window, rank, "x"));
  if (!all_equal<std::int64_t>(problem.stride, rank, 1)) text += " --stride " + per_axis(problem.stride, rank, "x");
  if (!all_equal<std::int64_t>(problem.dilation, rank, 1)) {
    text += " --dilation " + per_axis(problem.dilation, rank, "x");
  }
  if (!all_equal(problem.causal, rank, false)) text += " --causal " + per_axis(problem.causal, rank, ",");
  if (problem.batch != 1) text += fmt::format(" --batch {}", problem.batch);
  text += fmt::format(" --heads {}", problem.heads);
  if (problem.heads_kv != problem.heads) text += fmt::format(" --heads-kv {}", problem.heads_kv);
  text += fmt::format(" --dim {}", problem.dim);
  if (problem.dim_v != problem.dim) text += fmt::format(" --dim-v {}", problem.dim_v);
  if (problem.extra_kv != 0) text += fmt::format(" --extra-kv {}", problem.extra_kv);
  if (problem.scale) text += fmt::format(" --scale {}", *problem.scale);
  text += fmt::format(" --dtype {}", name_of(problem.dtype));
  if (problem.device.type == DeviceType::cuda) text += fmt::format(" --device cuda:{}", problem.device.index);
  if (problem.alignment != kMostAlignment) text += fmt::format(" --alignment {}", problem.alignment);
  return text;
}

}  // namespace vicinal
