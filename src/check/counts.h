#pragma once

// Attention where queries are zero: all neighbors of a query have the same weight, one over their number, so that sums
// of whole numbers tell which tokens took part.

#include <cstdint>
#include <vector>

#include "check/expected.h"
#include "vicinal/problem.h"

namespace vicinal::check {

class Counts {
 public:
  explicit Counts(const Problem& problem);

  /// Keys that a query attends to, extra tokens among them; `row` is one of [batch, *layout, heads].
  [[nodiscard]] double neighbors(std::int64_t row) const {
    return neighbors_[static_cast<std::size_t>(row / grid_.heads % grid_.tokens())];
  }

  /// Sums of the values of each query's neighbors: [batch, *layout, heads, dim_v].
  [[nodiscard]] std::vector<double> sums_of_values(const Inputs& inputs) const;

  /// Of the keys and of the extra tokens.
  struct Gradients {
    std::vector<double> keys;    ///< [batch, *layout, heads_kv, dim_v]
    std::vector<double> extras;  ///< [batch, extra_kv, heads_kv, dim_v]
  };
  /// Sums of grad_output [batch, *layout, heads, dim_v], each over its query's number of neighbors, over the queries
  /// that attend to a key, of all heads that share it.
  [[nodiscard]] Gradients gradients_of_values(const std::vector<double>& grad_output) const;

 private:
  Problem grid_;
  std::vector<double> neighbors_;  // of the queries of a token
};

}  // namespace vicinal::check
