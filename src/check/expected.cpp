#include "check/expected.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <span>

#include "core/elements.h"
#include "core/neighbors.h"
#include "core/slots.h"
#include "core/tiling.h"
#include "cpu/parallel.h"
#include "vicinal/attention.h"

namespace vicinal::check {
namespace {

Tensor dense(const std::vector<double>& values, const Shape& shape) {
  std::vector<std::int64_t> sizes = shape.outer;
  if (shape.row > 0) sizes.push_back(shape.row);
  if (shape.elements() == 0) return {};
  // Tensors are written through when they are results; the API has one type for both.
  return contiguous(const_cast<double*>(values.data()), sizes, DType::fp64);
}

template <class Tensors>
void run_reference(const Problem& problem, Operation operation, const Tensors& tensors) {
  const Plan plan = make_plan(problem, operation, {.backend = "reference", .tiling = {}});
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> workspace(plan.workspace_bytes / sizeof(Line) + 1);
  run(plan, tensors, {.workspace = workspace.data(), .workspace_bytes = plan.workspace_bytes});
}

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double norm(std::span<const double> row) { return std::sqrt(dot(row, row)); }

void add_scaled(std::span<double> sum, double factor, std::span<const double> row) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += factor * row[i];
}

/// A key/value token that a query attends to.
struct Attended {
  std::int64_t row;  // of key and value, or of extra_key and extra_value
  bool extra;
  std::span<const double> key, value;
  double probability = 0;
};

/// Row `index` of a dense tensor.
std::span<double> row_of(std::vector<double>& values, std::int64_t index, std::int64_t size) {
  return std::span(values).subspan(index * size, size);
}
std::span<const double> row_of(const std::vector<double>& values, std::int64_t index, std::int64_t size) {
  return std::span(values).subspan(index * size, size);
}

class Computation {
 public:
  Computation(const Problem& problem, const Inputs& inputs, Operation operation)
      : grid_(padded_to_rank_3(problem)),
        in_(inputs),
        backward_(operation == Operation::backward),
        rounding_(problem.dtype == DType::fp16 || problem.dtype == DType::bf16 ? problem.dtype : DType::fp64),
        scale_(problem.effective_scale()) {
    const Shapes shapes(problem);
    const auto allocate = [&](std::vector<double> Results::* member, const Shape& shape) {
      (out_.results.*member).resize(shape.elements());
      (out_.magnitudes.*member).resize(shape.rows());
    };
    allocate(&Results::output, shapes.output);
    allocate(&Results::logsumexp, shapes.logsumexp);
    if (!backward_) return;
    allocate(&Results::grad_query, shapes.query);
    allocate(&Results::grad_key, shapes.key);
    allocate(&Results::grad_value, shapes.value);
    allocate(&Results::grad_extra_key, shapes.extra_key);
    allocate(&Results::grad_extra_value, shapes.extra_value);
  }

  Straightforward run() {
    const std::int64_t share = grid_.heads / grid_.heads_kv;
    // The queries of all heads that share a key/value head, cut into parts that add to gradients of their own.
    const std::int64_t queries = grid_.tokens() * share;
    const std::int64_t in_part = std::max(kQueriesOfPart, ceil_div(queries, kMostParts));
    const std::int64_t parts = ceil_div(queries, in_part);
    if (backward_) part_gradients_.assign(parts - 1, gradients_of_keys());
    cpu::parallel_for(grid_.batch * grid_.heads_kv * parts, 0, [&](std::int64_t item, int) {
      const std::int64_t head = item / parts;
      const std::int64_t part = item % parts;
      Straightforward& gradients = !backward_ || part == 0 ? out_ : part_gradients_[part - 1];
      for (std::int64_t i = part * in_part; i < std::min((part + 1) * in_part, queries); ++i) {
        attend(head / grid_.heads_kv, token_at(grid_, i / share), head % grid_.heads_kv, i % share, gradients);
      }
    });
    for (const Straightforward& part : part_gradients_) add(part);
    for (const auto member : {&Results::output, &Results::grad_query, &Results::grad_key, &Results::grad_value,
                              &Results::grad_extra_key, &Results::grad_extra_value}) {
      for (double& value : out_.results.*member) value = rounded_to(rounding_, value);
      for (double& square : out_.magnitudes.*member) square = std::sqrt(square);
    }
    return std::move(out_);
  }

 private:
  static constexpr std::int64_t kQueriesOfPart = 64;
  static constexpr std::int64_t kMostParts = 32;
  static constexpr std::array kOfKeys{&Results::grad_key, &Results::grad_value, &Results::grad_extra_key,
                                      &Results::grad_extra_value};

  /// Zeros for the gradients that many queries add to.
  [[nodiscard]] Straightforward gradients_of_keys() const {
    Straightforward zeros;
    for (const auto member : kOfKeys) {
      (zeros.results.*member).resize((out_.results.*member).size());
      (zeros.magnitudes.*member).resize((out_.magnitudes.*member).size());
    }
    return zeros;
  }

  void add(const Straightforward& part) {
    const auto add_all = [](std::vector<double>& to, const std::vector<double>& from) {
      std::ranges::transform(to, from, to.begin(), std::plus());
    };
    for (const auto member : kOfKeys) {
      add_all(out_.results.*member, part.results.*member);
      add_all(out_.magnitudes.*member, part.magnitudes.*member);
    }
  }

  [[nodiscard]] std::vector<Attended> attended_by(std::int64_t batch, const Token& token, std::int64_t head_kv) const {
    std::vector<Attended> keys;
    for_each_neighbor(grid_, token, &AxisWindow::keys_of, [&](const Token& neighbor) {
      const std::int64_t row = (batch * grid_.tokens() + flat_index(grid_, neighbor)) * grid_.heads_kv + head_kv;
      keys.push_back({row, false, row_of(in_.key, row, grid_.dim), row_of(in_.value, row, grid_.dim_v)});
    });
    for (std::int64_t n = 0; n < grid_.extra_kv; ++n) {
      const std::int64_t row = (batch * grid_.extra_kv + n) * grid_.heads_kv + head_kv;
      keys.push_back({row, true, row_of(in_.extra_key, row, grid_.dim), row_of(in_.extra_value, row, grid_.dim_v)});
    }
    return keys;
  }

  void attend(std::int64_t batch, const Token& token, std::int64_t head_kv, std::int64_t head_in_share,
              Straightforward& gradients) {
    const std::int64_t head = head_kv * (grid_.heads / grid_.heads_kv) + head_in_share;
    const std::int64_t row = (batch * grid_.tokens() + flat_index(grid_, token)) * grid_.heads + head;
    const std::span<const double> query = row_of(in_.query, row, grid_.dim);
    std::vector<Attended> keys = attended_by(batch, token, head_kv);

    double peak = -std::numeric_limits<double>::infinity();
    for (Attended& k : keys) peak = std::max(peak, k.probability = scale_ * dot(query, k.key));
    double sum = 0;
    for (Attended& k : keys) sum += k.probability = std::exp(k.probability - peak);
    const std::span<double> output = row_of(out_.results.output, row, grid_.dim_v);
    for (Attended& k : keys) {
      k.probability /= sum;
      add_scaled(output, rounded_to(rounding_, k.probability), k.value);
      out_.magnitudes.output[row] += std::pow(k.probability * norm(k.value), 2);
    }
    // Before the gradients: a backward pass has no output but the one that was stored.
    for (double& value : output) value = rounded_to(rounding_, value);
    out_.results.logsumexp[row] = peak + std::log(sum);
    if (backward_) add_gradients(row, query, output, keys, gradients);
  }

  void add_gradients(std::int64_t row, std::span<const double> query, std::span<const double> output,
                     const std::vector<Attended>& keys, Straightforward& gradients) {
    const std::span<const double> grad_output = row_of(in_.grad_output, row, grid_.dim_v);
    const double grad_logsumexp = in_.grad_logsumexp.empty() ? 0.0 : in_.grad_logsumexp[row];
    const std::span<double> grad_query = row_of(out_.results.grad_query, row, grid_.dim);
    const auto grad_probability = [&](const Attended& k) { return rounded_to(rounding_, dot(grad_output, k.value)); };
    const double delta = dot(grad_output, output) - grad_logsumexp;
    // Dot products of random rows are smaller than the product of their norms by the root of their length.
    const double grad_norm = norm(grad_output) / std::sqrt(static_cast<double>(grid_.dim_v));
    for (const Attended& k : keys) {
      const double weight = rounded_to(rounding_, k.probability);  // that a softmax in this precision has stored
      const double grad_score = rounded_to(rounding_, weight * (grad_probability(k) - delta));
      add_scaled(grad_query, scale_ * grad_score, k.key);
      const auto grad_key = k.extra ? &Results::grad_extra_key : &Results::grad_key;
      const auto grad_value = k.extra ? &Results::grad_extra_value : &Results::grad_value;
      add_scaled(row_of(gradients.results.*grad_key, k.row, grid_.dim), scale_ * grad_score, query);
      add_scaled(row_of(gradients.results.*grad_value, k.row, grid_.dim_v), weight, grad_output);

      const double size =
          scale_ * k.probability * (grad_norm * (norm(k.value) + norm(output)) + std::abs(grad_logsumexp));
      out_.magnitudes.grad_query[row] += std::pow(size * norm(k.key), 2);
      (gradients.magnitudes.*grad_key)[k.row] += std::pow(size * norm(query), 2);
      (gradients.magnitudes.*grad_value)[k.row] += std::pow(k.probability * norm(grad_output), 2);
    }
  }

  Problem grid_;
  const Inputs& in_;
  bool backward_;
  DType rounding_;
  double scale_;
  Straightforward out_;                          // its magnitudes hold sums of squares until the end
  std::vector<Straightforward> part_gradients_;  // of all parts but the first
};

}  // namespace

Shapes::Shapes(const Problem& problem) {
  const auto grid = [&](std::int64_t heads, std::int64_t row) {
    Shape shape{{problem.batch}, row};
    shape.outer.insert(shape.outer.end(), problem.layout.begin(), problem.layout.begin() + problem.rank);
    shape.outer.push_back(heads);
    return shape;
  };
  query = grid(problem.heads, problem.dim);
  key = grid(problem.heads_kv, problem.dim);
  value = grid(problem.heads_kv, problem.dim_v);
  extra_key = {{problem.batch, problem.extra_kv, problem.heads_kv}, problem.dim};
  extra_value = {{problem.batch, problem.extra_kv, problem.heads_kv}, problem.dim_v};
  output = grid(problem.heads, problem.dim_v);
  logsumexp = grid(problem.heads, 0);
  weights = grid(problem.heads, slots_per_query(problem));
  bias = {{problem.heads}, 0};
  for (int a = 0; a < problem.rank; ++a) bias.outer.push_back(2 * problem.window[a] - 1);
}

Results exact_results(const Problem& problem, const Inputs& inputs, Operation operation) {
  Problem p = problem;
  p.dtype = DType::fp64;
  p.device = {};
  const Shapes shapes(problem);
  Results results;
  if (problem.batch == 0) return results;

  const auto result = [](std::vector<double>& values, const Shape& shape) {
    values.resize(shape.elements());
    return dense(values, shape);
  };
  const ForwardTensors forward{.query = dense(inputs.query, shapes.query),
                               .key = dense(inputs.key, shapes.key),
                               .value = dense(inputs.value, shapes.value),
                               .extra_key = dense(inputs.extra_key, shapes.extra_key),
                               .extra_value = dense(inputs.extra_value, shapes.extra_value),
                               .output = result(results.output, shapes.output),
                               .logsumexp = result(results.logsumexp, shapes.logsumexp)};
  run_reference(p, Operation::forward, forward);
  if (operation == Operation::forward) return results;

  run_reference(
      p, Operation::backward,
      BackwardTensors{
          .query = forward.query,
          .key = forward.key,
          .value = forward.value,
          .extra_key = forward.extra_key,
          .extra_value = forward.extra_value,
          .output = forward.output,
          .logsumexp = forward.logsumexp,
          .grad_output = dense(inputs.grad_output, shapes.output),
          .grad_logsumexp = inputs.grad_logsumexp.empty() ? Tensor{} : dense(inputs.grad_logsumexp, shapes.logsumexp),
          .grad_query = result(results.grad_query, shapes.query),
          .grad_key = result(results.grad_key, shapes.key),
          .grad_value = result(results.grad_value, shapes.value),
          .grad_extra_key = result(results.grad_extra_key, shapes.extra_key),
          .grad_extra_value = result(results.grad_extra_value, shapes.extra_value)});
  return results;
}

Straightforward straightforward_results(const Problem& problem, const Inputs& inputs, Operation operation) {
  return Computation(problem, inputs, operation).run();
}

}  // namespace vicinal::check
