#include "attention.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "arrays.h"
#include "execution.h"
#include "vicinal/attention.h"
#include "vicinal/error.h"

namespace nb = nanobind;

namespace vicinal::python {
namespace {

/// What a plan depends on.
struct PlanKey {
  Problem problem;
  Operation operation;
  std::string backend;
  ForcedTiling tiling;
  bool deterministic;

  friend bool operator==(const PlanKey&, const PlanKey&) = default;
};

struct PlanKeyHash {
  std::size_t operator()(const PlanKey& key) const {
    const Problem& p = key.problem;
    std::size_t hash = std::hash<std::string_view>{}(key.backend);
    const auto mix = [&hash](auto value) {
      hash = (hash ^ std::hash<decltype(value)>{}(value)) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 32;
    };
    for (int a = 0; a < p.rank; ++a) {
      for (const std::int64_t value : {p.layout[a], p.window[a], p.stride[a], p.dilation[a]}) mix(value);
      mix(p.causal[a]);
    }
    for (const std::int64_t value : {p.batch, p.heads, p.heads_kv, p.dim, p.dim_v, p.extra_kv, p.alignment}) mix(value);
    mix(p.scale.value_or(0.0));
    mix(static_cast<int>(p.dtype) * 8 + static_cast<int>(key.operation));
    mix(key.deterministic);
    return hash;
  }
};

/// Planning compares the costs of many tile shapes; a program asks for the same few plans over and over. The GIL
/// protects the cache; a plan stays alive while a call without the GIL uses it.
std::shared_ptr<const Plan> cached_plan(PlanKey key) {
  constexpr std::size_t kMostPlans = 1024;
  static std::unordered_map<PlanKey, std::shared_ptr<const Plan>, PlanKeyHash> plans;
  if (const auto found = plans.find(key); found != plans.end()) return found->second;
  const PlanOptions wanted{.backend = key.backend, .tiling = {}, .deterministic = key.deterministic};
  const PlanOptions options = with_forced_tiling(key.problem, key.operation, wanted, key.tiling);
  auto plan = std::make_shared<const Plan>(make_plan(key.problem, key.operation, options));
  if (plans.size() >= kMostPlans) plans.clear();
  plans.emplace(std::move(key), plan);
  return plan;
}

template <class T>
void fill(const char* name, const nb::tuple& values, int rank, PerAxis<T>& result) {
  if (static_cast<int>(values.size()) != rank) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} has {} values; allowed: {}, one per axis", name, values.size(), rank));
  }
  for (int a = 0; a < rank; ++a) result[a] = nb::cast<T>(values[a]);
}

/// Of one pass, from the value with number `first` on; 0 for what the planner is to choose.
ForcedTiling forced_tiling(const nb::tuple& values, std::size_t first, int rank) {
  const auto next = [&] { return nb::cast<std::int64_t>(values[first++]); };
  const auto shape = [&]() -> std::optional<PerAxis<std::int64_t>> {
    PerAxis<std::int64_t> extents{1, 1, 1};
    for (int a = 0; a < rank; ++a) extents[a] = next();
    if (extents[0] == 0) return std::nullopt;
    return extents;
  };
  const auto count = [&]() -> std::optional<std::int64_t> {
    const std::int64_t value = next();
    if (value == 0) return std::nullopt;
    return value;
  };
  ForcedTiling forced;
  for (auto member : {&ForcedTiling::query_tile, &ForcedTiling::key_tile, &ForcedTiling::block}) {
    forced.*member = shape();
  }
  forced.rows = count();
  forced.columns = count();
  return forced;
}

void require_dimensions(const char* name, const Tensor& tensor, int expected, const char* meaning) {
  if (tensor.rank == expected) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} has {} dimensions; allowed: {}, {}", name, tensor.rank, expected, meaning));
}

/// The tensors that every pass reads.
struct Inputs {
  Tensor query, key, value, extra_key, extra_value;

  Inputs(nb::handle query_array, nb::handle key_array, nb::handle value_array, nb::handle additional_keys,
         nb::handle additional_values)
      : query(tensor_of(query_array, "query")),
        key(tensor_of(key_array, "key")),
        value(tensor_of(value_array, "value")),
        extra_key(tensor_of(additional_keys, "additional_keys")),
        extra_value(tensor_of(additional_values, "additional_values")) {}

  /// The problem that they pose. Only what the problem is read from is checked here; `run` compares the rest with it.
  [[nodiscard]] Problem problem(const Neighborhood& neighborhood) const {
    static constexpr std::array kMeaning{"[batch, X, heads, dim]", "[batch, X, Y, heads, dim]",
                                         "[batch, X, Y, Z, heads, dim]"};
    const int rank = neighborhood.rank;
    for (const auto& [name, tensor] : {std::pair{"query", &query}, {"key", &key}, {"value", &value}}) {
      require_dimensions(name, *tensor, rank + 3, kMeaning[static_cast<std::size_t>(rank - 1)]);
    }
    Problem problem = neighborhood.problem();
    problem.batch = query.sizes[0];
    std::copy_n(query.sizes.begin() + 1, rank, problem.layout.begin());
    problem.heads = query.sizes[rank + 1];
    problem.dim = query.sizes[rank + 2];
    problem.heads_kv = key.sizes[rank + 1];
    problem.dim_v = value.sizes[rank + 2];
    problem.dtype = query.dtype;
    problem.device = query.device;
    problem.extra_kv = additional_tokens();
    return problem;
  }

 private:
  [[nodiscard]] std::int64_t additional_tokens() const {
    if (extra_key.present() != extra_value.present()) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("{} is None, but {} is given; allowed: both or neither",
                              extra_key.present() ? "additional_values" : "additional_keys",
                              extra_key.present() ? "additional_keys" : "additional_values"));
    }
    if (!extra_key.present()) return 0;
    require_dimensions("additional_keys", extra_key, 4, "[batch, tokens, heads_kv, dim]");
    if (extra_key.sizes[1] == 0) {
      throw Error(ErrorKind::invalid_argument, "additional_keys has 0 tokens; allowed: at least 1, or None");
    }
    return extra_key.sizes[1];
  }
};

Operation known_operation(std::string_view name) {
  if (const auto operation = operation_named(name)) return *operation;
  std::array<std::string_view, kOperations.size()> names;
  std::transform(kOperations.begin(), kOperations.end(), names.begin(), [](Operation o) { return name_of(o); });
  throw Error(ErrorKind::invalid_argument, fmt::format("operation = {}; allowed: {}", name, fmt::join(names, ", ")));
}

}  // namespace

Neighborhood::Neighborhood(const nb::tuple& parameters) {
  const auto per_axis = [&](int i) { return nb::cast<nb::tuple>(parameters[i]); };
  rank = static_cast<int>(per_axis(0).size());
  if (rank < 1 || rank > 3) {
    throw Error(ErrorKind::invalid_argument, fmt::format("kernel_size has {} values; allowed: 1 to 3", rank));
  }
  fill("kernel_size", per_axis(0), rank, kernel_size);
  fill("stride", per_axis(1), rank, stride);
  fill("dilation", per_axis(2), rank, dilation);
  fill("is_causal", per_axis(3), rank, is_causal);
  scale = nb::cast<std::optional<double>>(parameters[4]);
  backend = nb::cast<std::optional<std::string>>(parameters[5]).value_or("");
  const auto tilings = nb::cast<nb::tuple>(parameters[6]);
  if (tilings.empty()) return;
  const std::size_t values_of_pass = 3 * static_cast<std::size_t>(rank) + 2;
  if (tilings.size() != 2 * values_of_pass) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("tilings have {} values; allowed: none or {}", tilings.size(), 2 * values_of_pass));
  }
  tiling = forced_tiling(tilings, 0, rank);
  backward_tiling = forced_tiling(tilings, values_of_pass, rank);
}

Problem Neighborhood::problem() const {
  Problem problem;
  problem.rank = rank;
  problem.window = kernel_size;
  problem.stride = stride;
  problem.dilation = dilation;
  problem.causal = is_causal;
  problem.scale = scale;
  return problem;
}

std::shared_ptr<const Plan> plan_for(const Problem& problem, Operation operation, const Neighborhood& neighborhood,
                                     bool deterministic) {
  const bool backward = operation == Operation::backward;
  return cached_plan({problem, operation, neighborhood.backend,
                      backward ? neighborhood.backward_tiling : neighborhood.tiling, deterministic});
}

Plan plan(const nb::tuple& parameters, const nb::tuple& layout, std::int64_t batch, std::int64_t heads,
          std::int64_t heads_kv, std::int64_t dim, std::int64_t dim_v, std::int64_t additional_tokens,
          std::string_view dtype, std::string_view operation, bool deterministic) {
  const Neighborhood neighborhood(parameters);
  Problem problem = neighborhood.problem();
  fill("layout", layout, neighborhood.rank, problem.layout);
  problem.batch = batch;
  problem.heads = heads;
  problem.heads_kv = heads_kv;
  problem.dim = dim;
  problem.dim_v = dim_v;
  problem.extra_kv = additional_tokens;
  problem.dtype = dtype_named(dtype);
  return *plan_for(problem, known_operation(operation), neighborhood, deterministic);
}

void forward(const nb::tuple& parameters, nb::handle query, nb::handle key, nb::handle value,
             nb::handle additional_keys, nb::handle additional_values, nb::handle output, nb::handle logsumexp,
             nb::handle where) {
  const Neighborhood neighborhood(parameters);
  const Inputs inputs(query, key, value, additional_keys, additional_values);
  Problem problem = inputs.problem(neighborhood);
  const ForwardTensors tensors{
      .query = inputs.query,
      .key = inputs.key,
      .value = inputs.value,
      .extra_key = inputs.extra_key,
      .extra_value = inputs.extra_value,
      .output = result_of(output, "output"),
      .logsumexp = result_of(logsumexp, "logsumexp"),
  };
  problem.alignment = alignment_of(tensors);
  const auto plan = plan_for(problem, Operation::forward, neighborhood);
  run_without_gil(*plan, tensors, where);
}

void backward(const nb::tuple& parameters, nb::handle query, nb::handle key, nb::handle value,
              nb::handle additional_keys, nb::handle additional_values, nb::handle output, nb::handle logsumexp,
              nb::handle grad_output, nb::handle grad_logsumexp, nb::handle grad_query, nb::handle grad_key,
              nb::handle grad_value, nb::handle grad_additional_keys, nb::handle grad_additional_values,
              bool deterministic, nb::handle where) {
  const Neighborhood neighborhood(parameters);
  const Inputs inputs(query, key, value, additional_keys, additional_values);
  Problem problem = inputs.problem(neighborhood);
  const BackwardTensors tensors{
      .query = inputs.query,
      .key = inputs.key,
      .value = inputs.value,
      .extra_key = inputs.extra_key,
      .extra_value = inputs.extra_value,
      .output = tensor_of(output, "output"),
      .logsumexp = tensor_of(logsumexp, "logsumexp"),
      .grad_output = tensor_of(grad_output, "grad_output"),
      .grad_logsumexp = tensor_of(grad_logsumexp, "grad_logsumexp"),
      .grad_query = result_of(grad_query, "grad_query"),
      .grad_key = result_of(grad_key, "grad_key"),
      .grad_value = result_of(grad_value, "grad_value"),
      .grad_extra_key = result_of(grad_additional_keys, "grad_additional_keys"),
      .grad_extra_value = result_of(grad_additional_values, "grad_additional_values"),
  };
  problem.alignment = alignment_of(tensors);
  const auto plan = plan_for(problem, Operation::backward, neighborhood, deterministic);
  run_without_gil(*plan, tensors, where);
}

}  // namespace vicinal::python
