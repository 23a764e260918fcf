#pragma once

// The results of a benchmark, with what they were measured on, as JSON.

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "bench/measure.h"
#include "bench/roofline.h"
#include "vicinal/plan.h"

namespace vicinal::bench {

struct Result {
  std::string name;  ///< of the problem
  Plan plan;
  Timing timing;
  double floor_seconds = 0;  ///< by the roofline

  [[nodiscard]] double teraflops() const { return 2e-12 * plan.cost.needed_multiply_adds / timing.median; }
  [[nodiscard]] double gigabytes_per_second() const { return 1e-9 * plan.cost.bytes / timing.median; }
  [[nodiscard]] double fraction_of_roofline() const { return floor_seconds / timing.median; }
};

/// Machine, build, date, roofline and results.
nlohmann::ordered_json make_record(const Device& device, const Roofline& roofline, int threads, bool cold,
                                   const std::vector<Result>& results);

/// Creates the file where there is none: found out before the work of a benchmark, not after it.
/// Throws `Error` (system) when it cannot be written.
void require_writable(const std::string& path);

/// Writes JSON to a file. Throws `Error` (system) when it cannot be written.
void save_json(const std::string& path, const nlohmann::ordered_json& json);

/// A result that two records share.
struct Comparison {
  std::string name;
  std::string operation;
  double old_seconds = 0;
  double new_seconds = 0;
};

/// The results of the same name, problem and operation, in the order of `newer`. Throws `Error` (invalid_argument)
/// when one of them is no record.
std::vector<Comparison> compare_records(const nlohmann::ordered_json& older, const nlohmann::ordered_json& newer);

}  // namespace vicinal::bench
