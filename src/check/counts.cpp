#include "check/counts.h"

#include <cstddef>

#include "core/neighbors.h"
#include "cpu/parallel.h"

namespace vicinal::check {

Counts::Counts(const Problem& problem) : grid_(padded_to_rank_3(problem)) {
  neighbors_.reserve(static_cast<std::size_t>(grid_.tokens()));
  for (std::int64_t token = 0; token < grid_.tokens(); ++token) {
    double count = static_cast<double>(grid_.extra_kv);
    for_each_neighbor(grid_, token_at(grid_, token), &AxisWindow::keys_of, [&](const Token&) { ++count; });
    neighbors_.push_back(count);
  }
}

std::vector<double> Counts::sums_of_values(const Inputs& inputs) const {
  const std::int64_t rows = grid_.batch * grid_.tokens() * grid_.heads;
  std::vector<double> sums(static_cast<std::size_t>(rows * grid_.dim_v));
  cpu::parallel_for(rows, 0, [&](std::int64_t row, int) {
    const std::int64_t head_kv = row % grid_.heads / (grid_.heads / grid_.heads_kv);
    const std::int64_t batch = row / grid_.heads / grid_.tokens();
    double* const sum = &sums[static_cast<std::size_t>(row * grid_.dim_v)];
    const auto add = [&](const std::vector<double>& values, std::int64_t token) {
      const double* const value = &values[static_cast<std::size_t>((token * grid_.heads_kv + head_kv) * grid_.dim_v)];
      for (std::int64_t i = 0; i < grid_.dim_v; ++i) sum[i] += value[i];
    };
    for_each_neighbor(grid_, token_at(grid_, row / grid_.heads % grid_.tokens()), &AxisWindow::keys_of,
                      [&](const Token& key) { add(inputs.value, batch * grid_.tokens() + flat_index(grid_, key)); });
    for (std::int64_t n = 0; n < grid_.extra_kv; ++n) add(inputs.extra_value, batch * grid_.extra_kv + n);
  });
  return sums;
}

Counts::Gradients Counts::gradients_of_values(const std::vector<double>& grad_output) const {
  const std::int64_t share = grid_.heads / grid_.heads_kv;
  const auto make = [this](std::int64_t tokens) {
    return std::vector<double>(static_cast<std::size_t>(grid_.batch * tokens * grid_.heads_kv * grid_.dim_v));
  };
  Gradients sums{make(grid_.tokens()), make(grid_.extra_kv)};
  // Adds those of all heads that share a key/value head, of the queries of a token.
  const auto add = [&](std::int64_t batch, std::int64_t token, std::int64_t head_kv, double* sum) {
    for (std::int64_t head = head_kv * share; head < (head_kv + 1) * share; ++head) {
      const std::int64_t row = (batch * grid_.tokens() + token) * grid_.heads + head;
      for (std::int64_t i = 0; i < grid_.dim_v; ++i) {
        sum[i] += grad_output[static_cast<std::size_t>(row * grid_.dim_v + i)] / neighbors(row);
      }
    }
  };
  cpu::parallel_for(grid_.batch * grid_.tokens() * grid_.heads_kv, 0, [&](std::int64_t row, int) {
    const std::int64_t token = row / grid_.heads_kv;
    for_each_neighbor(grid_, token_at(grid_, token % grid_.tokens()), &AxisWindow::queries_of, [&](const Token& query) {
      add(token / grid_.tokens(), flat_index(grid_, query), row % grid_.heads_kv,
          &sums.keys[static_cast<std::size_t>(row * grid_.dim_v)]);
    });
  });
  cpu::parallel_for(grid_.batch * grid_.extra_kv * grid_.heads_kv, 0, [&](std::int64_t row, int) {
    for (std::int64_t token = 0; token < grid_.tokens(); ++token) {
      add(row / grid_.heads_kv / grid_.extra_kv, token, row % grid_.heads_kv,
          &sums.extras[static_cast<std::size_t>(row * grid_.dim_v)]);
    }
  });
  return sums;
}

}  // namespace vicinal::check
