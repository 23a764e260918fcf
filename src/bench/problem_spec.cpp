#include "bench/problem_spec.h"

#include <charconv>
#include <system_error>

#include <fmt/format.h>

namespace vicinal::bench {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::invalid_argument, message); }

template <class Integer>
bool parse_integer(std::string_view text, Integer& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::vector<std::int64_t> parse_axes(std::string_view argument, std::string_view text) {
  std::vector<std::int64_t> values;
  std::string_view rest = text;
  while (true) {
    const std::size_t separator = rest.find_first_of("x,");
    std::int64_t value = 0;
    if (!parse_integer(rest.substr(0, separator), value)) {
      refuse(fmt::format("{} = '{}'; allowed: integers such as 7, 30x48x80 or 1,0,0", argument, text));
    }
    values.push_back(value);
    if (separator == std::string_view::npos) return values;
    rest.remove_prefix(separator + 1);
  }
}

DType parse_dtype(std::string_view text) {
  for (const DType dtype : {DType::fp64, DType::fp32, DType::fp16, DType::bf16}) {
    if (text == name_of(dtype)) return dtype;
  }
  refuse(fmt::format("dtype = '{}'; allowed: fp64, fp32, fp16, bf16", text));
}

Device parse_device(std::string_view text) {
  if (text == "cpu") return {};
  Device device{DeviceType::cuda, 0};
  const std::string_view ordinal = text.substr(text.find(':') == std::string_view::npos ? text.size() : 5);
  if (text == "cuda" || (text.starts_with("cuda:") && parse_integer(ordinal, device.index) && device.index >= 0)) {
    return device;
  }
  refuse(fmt::format("device = '{}'; allowed: cpu, cuda, cuda:N", text));
}

PerAxis<std::int64_t> broadcast(std::string_view argument, const std::vector<std::int64_t>& values, int rank) {
  const auto axes = static_cast<std::size_t>(rank);
  if (values.size() != 1 && values.size() != axes) {
    refuse(fmt::format("{} has {} values; allowed: 1, or one for each of the {} axes", argument, values.size(), axes));
  }
  PerAxis<std::int64_t> result{1, 1, 1};
  for (std::size_t a = 0; a < axes; ++a) result[a] = values.size() == 1 ? values[0] : values[a];
  return result;
}

std::string join_axes(const PerAxis<std::int64_t>& values, int rank) {
  return fmt::format("{}", fmt::join(values.begin(), values.begin() + rank, "x"));
}

Problem ProblemSpec::resolve() const {
  if (layout.empty()) refuse("layout is missing; allowed: 1 to 3 axes");
  if (window.empty()) refuse("window is missing; allowed: 1 value, or one for each axis");
  if (layout.size() > 3) refuse(fmt::format("layout has {} axes; allowed: 1 to 3", layout.size()));
  Problem problem;
  problem.rank = static_cast<int>(layout.size());
  problem.layout = broadcast("layout", layout, problem.rank);
  problem.window = broadcast("window", window, problem.rank);
  problem.stride = broadcast("stride", stride, problem.rank);
  problem.dilation = broadcast("dilation", dilation, problem.rank);
  problem.batch = batch;
  problem.heads = heads;
  problem.heads_kv = heads_kv.value_or(heads);
  problem.dim = dim;
  problem.dim_v = dim_v.value_or(dim);
  problem.extra_kv = extra_kv;
  problem.scale = scale;
  problem.dtype = dtype;
  problem.device = device;
  problem.alignment = alignment;

  const PerAxis<std::int64_t> flags = broadcast("causal", causal, problem.rank);
  for (std::size_t a = 0; a < layout.size(); ++a) {
    if (flags[a] != 0 && flags[a] != 1) refuse(fmt::format("causal = {}; allowed: 0 or 1", flags[a]));
    problem.causal[a] = flags[a] == 1;
  }
  if (const Status status = validate(problem); !status.ok()) refuse(status.reason());
  return problem;
}

}  // namespace vicinal::bench
