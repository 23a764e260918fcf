#include "check/unfused_expected.h"

#include <cmath>
#include <limits>
#include <optional>
#include <span>

#include "core/elements.h"
#include "core/neighbors.h"
#include "cpu/parallel.h"

namespace vicinal::check {
namespace {

/// A query with a key that it attends to; indices of dense rows.
struct Pair {
  std::int64_t query;   // of query, output and weights
  std::int64_t key;     // of key and value, or of extra_key and extra_value
  std::int64_t weight;  // element of weights
  bool extra;
  std::int64_t bias;  // element of the bias; not for extra tokens
};

class UnfusedComputation {
 public:
  UnfusedComputation(const Problem& problem, const Inputs& inputs, Operation operation, MaskedScore masked)
      : grid_(padded_to_rank_3(problem)), in_(inputs), operation_(operation), scale_(problem.effective_scale()) {
    const Shapes shapes(problem);
    slots_ = shapes.weights.row;
    const auto allocate = [&](std::vector<double> Results::* member, const Shape& shape, double value = 0) {
      (out_.results.*member).resize(shape.elements(), value);
      (out_.magnitudes.*member).resize(shape.rows());
    };
    switch (operation) {
      case Operation::pointwise_neighborhood:
        allocate(&Results::weights, shapes.weights,
                 masked == MaskedScore::zero ? 0 : -std::numeric_limits<double>::infinity());
        break;
      case Operation::neighborhood_neighborhood: allocate(&Results::output, shapes.output); break;
      case Operation::inverse_neighborhood:
        allocate(&Results::grad_value, shapes.value);
        allocate(&Results::grad_extra_value, shapes.extra_value);
        break;
      default: allocate(&Results::grad_bias, shapes.bias);
    }
  }

  Straightforward run() {
    const std::int64_t share = grid_.heads / grid_.heads_kv;
    // Query heads that share a key/value head add to the same gradients, so they are one work item.
    cpu::parallel_for(grid_.heads_kv, 0, [&](std::int64_t head_kv, int) {
      for (std::int64_t head = head_kv * share; head < (head_kv + 1) * share; ++head) {
        for (std::int64_t i = 0; i < grid_.batch * grid_.tokens(); ++i) {
          for_each_pair(i / grid_.tokens(), token_at(grid_, i % grid_.tokens()), head,
                        [&](const Pair& pair) { add(pair); });
        }
      }
    });
    for (const auto member : kMembers) {
      for (double& square : out_.magnitudes.*member) square = std::sqrt(square);
    }
    return std::move(out_);
  }

  static constexpr std::array kMembers{&Results::weights, &Results::output, &Results::grad_value,
                                       &Results::grad_extra_value, &Results::grad_bias};

 private:
  template <class Visit>
  void for_each_pair(std::int64_t batch, const Token& token, std::int64_t head, Visit visit) const {
    const std::int64_t head_kv = head / (grid_.heads / grid_.heads_kv);
    const std::int64_t query = (batch * grid_.tokens() + flat_index(grid_, token)) * grid_.heads + head;
    std::optional<Token> first;  // of the window
    for_each_neighbor(grid_, token, &AxisWindow::keys_of, [&](const Token& key) {
      if (!first) first = key;
      std::int64_t slot = 0;
      std::int64_t bias = head;
      for (int a = 0; a < 3; ++a) {
        slot = slot * grid_.window[a] + (key[a] - (*first)[a]) / grid_.dilation[a];
        bias = bias * (2 * grid_.window[a] - 1) + grid_.window[a] - 1 + (key[a] - token[a]) / grid_.dilation[a];
      }
      const std::int64_t row = (batch * grid_.tokens() + flat_index(grid_, key)) * grid_.heads_kv + head_kv;
      visit(Pair{query, row, query * slots_ + slot, false, bias});
    });
    for (std::int64_t n = 0; n < grid_.extra_kv; ++n) {
      const std::int64_t row = (batch * grid_.extra_kv + n) * grid_.heads_kv + head_kv;
      visit(Pair{query, row, (query + 1) * slots_ - grid_.extra_kv + n, true, 0});
    }
  }

  void add(const Pair& pair) {
    Results& results = out_.results;
    Results& squares = out_.magnitudes;
    switch (operation_) {
      case Operation::pointwise_neighborhood: {
        const auto query = row_of(in_.query, pair.query), key = row_of(pair.extra ? in_.extra_key : in_.key, pair.key);
        const double bias = pair.extra || in_.bias.empty() ? 0 : in_.bias[pair.bias];
        results.weights[pair.weight] = scale_ * dot(query, key) + bias;
        // Dot products of random rows are smaller than the product of their norms by the root of their length.
        squares.weights[pair.query] +=
            scale_ * scale_ * dot(query, query) * dot(key, key) / static_cast<double>(grid_.dim) + bias * bias;
        return;
      }
      case Operation::neighborhood_neighborhood:
        add_row(results.output, squares.output, pair.query, in_.weights[pair.weight],
                row_of(pair.extra ? in_.extra_value : in_.value, pair.key));
        return;
      case Operation::inverse_neighborhood:
        add_row(pair.extra ? results.grad_extra_value : results.grad_value,
                pair.extra ? squares.grad_extra_value : squares.grad_value, pair.key, in_.weights[pair.weight],
                row_of(in_.grad_output, pair.query));
        return;
      default: break;
    }
    if (pair.extra) return;
    results.grad_bias[pair.bias] += in_.weights[pair.weight];
    squares.grad_bias[pair.bias] += in_.weights[pair.weight] * in_.weights[pair.weight];
  }

  void add_row(std::vector<double>& sums, std::vector<double>& squares, std::int64_t index, double weight,
               std::span<const double> row) const {
    for (std::int64_t i = 0; i < grid_.dim; ++i) sums[index * grid_.dim + i] += scale_ * weight * row[i];
    squares[index] += scale_ * scale_ * weight * weight * dot(row, row);
  }

  [[nodiscard]] std::span<const double> row_of(const std::vector<double>& values, std::int64_t index) const {
    return std::span(values).subspan(index * grid_.dim, grid_.dim);
  }

  static double dot(std::span<const double> a, std::span<const double> b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  Problem grid_;
  const Inputs& in_;
  Operation operation_;
  double scale_;
  std::int64_t slots_ = 0;
  Straightforward out_;  // its magnitudes hold sums of squares until the end
};

}  // namespace

Straightforward unfused_results(const Problem& problem, const Inputs& inputs, Operation operation, MaskedScore masked) {
  return UnfusedComputation(problem, inputs, operation, masked).run();
}

Straightforward rounded_unfused_results(const Problem& problem, const Inputs& inputs, Operation operation,
                                        MaskedScore masked) {
  Straightforward expected = unfused_results(problem, inputs, operation, masked);
  if (problem.dtype == DType::fp64 || problem.dtype == DType::fp32) return expected;
  for (const auto member : UnfusedComputation::kMembers) {
    for (double& value : expected.results.*member) value = rounded_to(problem.dtype, value);
  }
  return expected;
}

void fill_masked_slots(const Problem& problem, double value, std::vector<double>& weights) {
  // PN with zero queries tells the slots that have a key.
  Problem scores = problem;
  scores.dim = scores.dim_v = 1;
  const Shapes shapes(scores);
  Inputs zeros;
  zeros.query.resize(shapes.query.elements());
  zeros.key.resize(shapes.key.elements());
  zeros.extra_key.resize(shapes.extra_key.elements());
  const Straightforward mask =
      unfused_results(scores, zeros, Operation::pointwise_neighborhood, MaskedScore::minus_infinity);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (std::isinf(mask.results.weights[i])) weights[i] = value;
  }
}

}  // namespace vicinal::check
