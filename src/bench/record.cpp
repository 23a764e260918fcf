#include "bench/record.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/machine.h"
#include "bench/suite.h"
#include "vicinal/version.h"

namespace vicinal::bench {
namespace {

using Json = nlohmann::ordered_json;

Json result_json(const Result& result) {
  return {{"name", result.name},
          {"operation", name_of(result.plan.operation)},
          {"problem", problem_json(result.plan.problem)},
          {"kernel", result.plan.kernel_name()},
          {"median_seconds", result.timing.median},
          {"fastest_seconds", result.timing.fastest},
          {"spread", result.timing.spread},
          {"repetitions", result.timing.repetitions},
          {"needed_multiply_adds", result.plan.cost.needed_multiply_adds},
          {"visited_multiply_adds", result.plan.cost.visited_multiply_adds},
          {"bytes", result.plan.cost.bytes},
          {"workspace_bytes", result.plan.workspace_bytes},
          {"tflops", result.teraflops()},
          {"gigabytes_per_second", result.gigabytes_per_second()},
          {"fraction_of_roofline", result.fraction_of_roofline()}};
}

// What makes two results comparable.
using Key = std::tuple<std::string, std::string, std::string>;

Key key_of(const Json& result) {
  return {result.at("name").get<std::string>(), result.at("operation").get<std::string>(), result.at("problem").dump()};
}

[[noreturn]] void fail_to_write(const std::string& path) {
  throw Error(ErrorKind::system, fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
}

}  // namespace

Json make_record(const Device& device, const Roofline& roofline, int threads, bool cold,
                 const std::vector<Result>& results) {
  Json list = Json::array();
  for (const Result& result : results) list.push_back(result_json(result));
  return {{"vicinal", kVersion},
          {"commit", commit()},
          {"compiler", compiler()},
          {"date", utc_now()},
          {"cpu", cpu_name()},
          {"cpu_target", chosen_cpu_target()},
          {"gpu", device.type == DeviceType::cuda ? Json(gpu_name(device)) : Json()},
          {"threads", threads},
          {"cold", cold},
          {"roofline",
           {{"bytes_per_second", roofline.bytes_per_second},
            {"multiply_adds_per_second_16", roofline.multiply_adds_per_second_16},
            {"multiply_adds_per_second_32", roofline.multiply_adds_per_second_32},
            {"multiply_adds_per_second_64", roofline.multiply_adds_per_second_64}}},
          {"results", list}};
}

void require_writable(const std::string& path) {
  if (!std::ofstream(path, std::ios::app)) fail_to_write(path);
}

void save_json(const std::string& path, const Json& json) {
  std::ofstream file(path);
  file << json.dump(2) << '\n';
  if (!file.flush()) fail_to_write(path);
}

std::vector<Comparison> compare_records(const Json& older, const Json& newer) try {
  std::map<Key, double> known;
  for (const Json& result : older.at("results")) known[key_of(result)] = result.at("median_seconds").get<double>();
  std::vector<Comparison> shared;
  for (const Json& result : newer.at("results")) {
    const auto [name, operation, problem] = key_of(result);
    const auto match = known.find({name, operation, problem});
    if (match == known.end()) continue;
    shared.push_back({name, operation, match->second, result.at("median_seconds").get<double>()});
  }
  return shared;
} catch (const nlohmann::json::exception& error) {
  throw Error(ErrorKind::invalid_argument, fmt::format("not a record of `vicinal bench --json`: {}", error.what()));
}

}  // namespace vicinal::bench
