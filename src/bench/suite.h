#pragma once

// Problems as JSON, with the names and forms of the command line's options:
//   {"name": "nat", "layout": [56, 56], "window": 7, "heads": 2, "dim": 32, "dtype": "fp16"}
// A suite is a list of them.

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "vicinal/problem.h"

namespace vicinal::bench {

struct NamedProblem {
  std::string name;
  Problem problem;
};

/// Reads a suite. Throws `Error`: system when the file cannot be read, invalid_argument when an entry is wrong,
/// naming the entry and the key. "h100_ms" holds the times of others on that machine and is not read.
std::vector<NamedProblem> load_suite(const std::string& path);

/// The JSON form of a problem, every key present.
nlohmann::ordered_json problem_json(const Problem& problem);

/// Parses a JSON file. Throws `Error`: system when it cannot be read, invalid_argument when it is not JSON.
nlohmann::ordered_json load_json(const std::string& path);

}  // namespace vicinal::bench
