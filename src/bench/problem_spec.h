#pragma once

// A problem as people write it, on the command line or in a suite file: one integer stands for every axis, and what is
// left out follows from the rest.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vicinal/problem.h"

namespace vicinal::bench {

struct ProblemSpec {
  std::vector<std::int64_t> layout;  ///< one extent per axis: gives the rank
  std::vector<std::int64_t> window;  ///< one value per axis, or one for all; so are the next three
  std::vector<std::int64_t> stride{1};
  std::vector<std::int64_t> dilation{1};
  std::vector<std::int64_t> causal{0};  ///< 0 or 1
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::optional<std::int64_t> heads_kv;  ///< `heads` when absent
  std::int64_t dim = 64;
  std::optional<std::int64_t> dim_v;  ///< `dim` when absent
  std::int64_t extra_kv = 0;
  std::optional<double> scale;
  DType dtype = DType::fp32;
  Device device{};
  std::int64_t alignment = kMostAlignment;

  /// The validated problem. Throws `Error` (invalid_argument) naming the argument, its value and what is allowed.
  [[nodiscard]] Problem resolve() const;
};

/// "30x48x80", "30,48,80" or "7". Throws `Error` (invalid_argument) that names `argument`.
std::vector<std::int64_t> parse_axes(std::string_view argument, std::string_view text);

/// "fp64", "fp32", "fp16" or "bf16". Throws `Error` (invalid_argument).
DType parse_dtype(std::string_view text);

/// "cpu", "cuda" or "cuda:1". Throws `Error` (invalid_argument).
Device parse_device(std::string_view text);

/// `values` over the axes of a rank: itself, or its only value repeated. Throws `Error` that names `argument`.
PerAxis<std::int64_t> broadcast(std::string_view argument, const std::vector<std::int64_t>& values, int rank);

/// "30x48x80": the first `rank` values.
std::string join_axes(const PerAxis<std::int64_t>& values, int rank);

}  // namespace vicinal::bench
