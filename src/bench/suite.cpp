#include "bench/suite.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/problem_spec.h"

namespace vicinal::bench {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::int64_t> axes(const Json& value) {
  if (value.is_array()) return value.get<std::vector<std::int64_t>>();
  return {value.get<std::int64_t>()};
}

// What each key of an entry sets. "name" and "h100_ms" are not the problem's.
using Setter = std::function<void(ProblemSpec&, const Json&)>;
const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> table{
      {"layout", [](ProblemSpec& s, const Json& v) { s.layout = axes(v); }},
      {"window", [](ProblemSpec& s, const Json& v) { s.window = axes(v); }},
      {"stride", [](ProblemSpec& s, const Json& v) { s.stride = axes(v); }},
      {"dilation", [](ProblemSpec& s, const Json& v) { s.dilation = axes(v); }},
      {"causal", [](ProblemSpec& s, const Json& v) { s.causal = axes(v); }},
      {"batch", [](ProblemSpec& s, const Json& v) { s.batch = v.get<std::int64_t>(); }},
      {"heads", [](ProblemSpec& s, const Json& v) { s.heads = v.get<std::int64_t>(); }},
      {"heads_kv", [](ProblemSpec& s, const Json& v) { s.heads_kv = v.get<std::int64_t>(); }},
      {"dim", [](ProblemSpec& s, const Json& v) { s.dim = v.get<std::int64_t>(); }},
      {"dim_v", [](ProblemSpec& s, const Json& v) { s.dim_v = v.get<std::int64_t>(); }},
      {"extra_kv", [](ProblemSpec& s, const Json& v) { s.extra_kv = v.get<std::int64_t>(); }},
      {"scale", [](ProblemSpec& s, const Json& v) { s.scale = v.get<double>(); }},
      {"dtype", [](ProblemSpec& s, const Json& v) { s.dtype = parse_dtype(v.get<std::string>()); }},
      {"device", [](ProblemSpec& s, const Json& v) { s.device = parse_device(v.get<std::string>()); }},
      {"alignment", [](ProblemSpec& s, const Json& v) { s.alignment = v.get<std::int64_t>(); }},
  };
  return table;
}

NamedProblem parse_entry(const Json& entry) {
  NamedProblem named{entry.at("name").get<std::string>(), {}};
  ProblemSpec spec;
  for (const auto& [key, value] : entry.items()) {
    if (key == "name" || key == "h100_ms") continue;
    const auto setter = setters().find(key);
    if (setter == setters().end()) {
      throw Error(ErrorKind::invalid_argument, fmt::format("'{}' is not a key of a problem", key));
    }
    setter->second(spec, value);
  }
  named.problem = spec.resolve();
  return named;
}

template <class T>
std::vector<T> first_axes(const PerAxis<T>& values, int rank) {
  return {values.begin(), values.begin() + rank};
}

}  // namespace

Json load_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorKind::system, fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  try {
    return Json::parse(file);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{}: {}", path, error.what()));
  }
}

std::vector<NamedProblem> load_suite(const std::string& path) {
  const Json suite = load_json(path);
  if (!suite.is_array()) throw Error(ErrorKind::invalid_argument, fmt::format("{}: must be a list of problems", path));
  std::vector<NamedProblem> problems;
  for (const Json& entry : suite) {
    const auto refuse = [&](const std::string& reason) {
      throw Error(ErrorKind::invalid_argument, fmt::format("{}: entry {}: {}", path, problems.size(), reason));
    };
    try {
      problems.push_back(parse_entry(entry));
    } catch (const Error& error) {
      refuse(error.what());
    } catch (const nlohmann::json::exception& error) {
      refuse(error.what());
    }
  }
  return problems;
}

Json problem_json(const Problem& problem) {
  Json json{{"layout", first_axes(problem.layout, problem.rank)},
            {"window", first_axes(problem.window, problem.rank)},
            {"stride", first_axes(problem.stride, problem.rank)},
            {"dilation", first_axes(problem.dilation, problem.rank)},
            {"causal", std::vector<int>(problem.causal.begin(), problem.causal.begin() + problem.rank)},
            {"batch", problem.batch},
            {"heads", problem.heads},
            {"heads_kv", problem.heads_kv},
            {"dim", problem.dim},
            {"dim_v", problem.dim_v},
            {"extra_kv", problem.extra_kv},
            {"scale", problem.effective_scale()},
            {"dtype", name_of(problem.dtype)}};
  json["device"] = problem.device.type == DeviceType::cpu ? "cpu" : fmt::format("cuda:{}", problem.device.index);
  if (problem.alignment != kMostAlignment) json["alignment"] = problem.alignment;
  return json;
}

}  // namespace vicinal::bench
