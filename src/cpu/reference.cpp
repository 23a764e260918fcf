// The oracle: neighborhood attention as it is defined, one (query, key) pair at a time in float64, for any dtype.
// Forward and the gradient of query visit the keys of each query; the gradients of key and value visit the queries of
// each key. Every output element is computed by one thread in a fixed order, so results do not depend on the number of
// threads. Clarity comes before speed.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/elements.h"
#include "core/neighbors.h"
#include "core/tiling.h"
#include "cpu/parallel.h"
#include "plan/cost.h"
#include "plan/registry.h"

namespace vicinal {
namespace {

using Row = std::vector<double>;

/// One token of one head.
struct Place {
  std::int64_t batch;
  Token token;
  std::int64_t head;
};

/// Place number `item` of all batch entries, tokens and heads, heads fastest.
Place place_of(const Problem& grid, std::int64_t heads, std::int64_t item) {
  const std::int64_t token = item / heads;
  return {token / grid.tokens(), token_at(grid, token % grid.tokens()), item % heads};
}

std::int64_t offset(const View& view, const Place& at) {
  return view.offset(at.batch, at.token[0], at.token[1], at.token[2], at.head);
}

void read(const View& view, const Place& at, Row& row) { read_elements(view.data, view.dtype, offset(view, at), row); }

void write(const View& view, const Place& at, const Row& row) {
  write_elements(view.data, view.dtype, offset(view, at), row);
}

double read_number(const View& view, const Place& at) {
  double number = 0;
  read_elements(view.data, view.dtype, offset(view, at), {&number, 1});
  return number;
}

double dot(const Row& a, const Row& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

void add_scaled(Row& sum, double factor, const Row& row) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += factor * row[i];
}

/// Calls visit(key, value, place) for every key that the query at `at` attends to, extra tokens last.
template <class Views, class Visit>
void for_each_key(const Problem& grid, const Views& t, const Place& at, Visit visit) {
  const std::int64_t head = at.head / (grid.heads / grid.heads_kv);
  for_each_neighbor(grid, at.token, &AxisWindow::keys_of,
                    [&](const Token& token) { visit(t.key, t.value, Place{at.batch, token, head}); });
  for (std::int64_t n = 0; n < grid.extra_kv; ++n) {
    visit(t.extra_key, t.extra_value, Place{at.batch, {0, 0, n}, head});
  }
}

void forward(const Problem& grid, const Tiling&, const ForwardViews& t, const Execution& execution) {
  const double scale = grid.effective_scale();
  cpu::parallel_for(grid.batch * grid.tokens() * grid.heads, execution.threads, [&](std::int64_t item, int) {
    const Place at = place_of(grid, grid.heads, item);
    Row query(grid.dim), key(grid.dim), value(grid.dim_v), output(grid.dim_v), scores;
    read(t.query, at, query);
    for_each_key(grid, t, at, [&](const View& keys, const View&, const Place& from) {
      read(keys, from, key);
      scores.push_back(scale * dot(query, key));
    });
    const double peak = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - peak);
    auto probability = scores.begin();
    for_each_key(grid, t, at, [&](const View&, const View& values, const Place& from) {
      read(values, from, value);
      add_scaled(output, *probability++ / sum, value);
    });
    write(t.output, at, output);
    if (t.logsumexp) write(t.logsumexp, at, {peak + std::log(sum)});
  });
}

/// What the gradients need to know about one query.
struct Query {
  explicit Query(const Problem& grid) : query(grid.dim), grad_output(grid.dim_v) {}

  void read_from(const BackwardViews& t, const Place& at, double its_delta) {
    read(t.query, at, query);
    read(t.grad_output, at, grad_output);
    logsumexp = read_number(t.logsumexp, at);
    delta = its_delta;
  }

  Row query;
  Row grad_output;
  double logsumexp = 0;
  double delta = 0;
};

/// The backward pass after `delta` is known: [batch, *layout, heads], rowsum(grad_output * output) - grad_logsumexp.
class Gradients {
 public:
  Gradients(const Problem& grid, const BackwardViews& tensors, const double* delta)
      : grid_(grid), t_(tensors), delta_(delta), scale_(grid.effective_scale()) {}

  void write_grad_query(std::int64_t item) const {
    const Place at = place_of(grid_, grid_.heads, item);
    Query query(grid_);
    query.read_from(t_, at, delta_[item]);
    Row key(grid_.dim), value(grid_.dim_v), gradient(grid_.dim);
    for_each_key(grid_, t_, at, [&](const View& keys, const View& values, const Place& from) {
      read(keys, from, key);
      read(values, from, value);
      add_scaled(gradient, pair(query, key, value).grad_dot, key);
    });
    write(t_.grad_query, at, gradient);
  }

  void write_grad_key_value(std::int64_t item) const {
    const Place at = place_of(grid_, grid_.heads_kv, item);
    sum_over_queries(t_.key, t_.value, at, t_.grad_key, t_.grad_value,
                     [&](auto visit) { for_each_neighbor(grid_, at.token, &AxisWindow::queries_of, visit); });
  }

  void write_grad_extra(std::int64_t item) const {
    const std::int64_t token = item / grid_.heads_kv;
    const Place at{token / grid_.extra_kv, {0, 0, token % grid_.extra_kv}, item % grid_.heads_kv};
    sum_over_queries(t_.extra_key, t_.extra_value, at, t_.grad_extra_key, t_.grad_extra_value, [&](auto visit) {
      for (std::int64_t i = 0; i < grid_.tokens(); ++i) visit(token_at(grid_, i));
    });
  }

 private:
  struct Pair {
    double probability;
    double grad_dot;  // of the dot product of query and key
  };

  [[nodiscard]] Pair pair(const Query& query, const Row& key, const Row& value) const {
    const double probability = std::exp(scale_ * dot(query.query, key) - query.logsumexp);
    return {probability, scale_ * probability * (dot(query.grad_output, value) - query.delta)};
  }

  // The gradients of the key and value at `at`, from the queries (of all heads that share them) that attend to them.
  template <class ForEachQuery>
  void sum_over_queries(const View& keys, const View& values, const Place& at, const View& grad_keys,
                        const View& grad_values, ForEachQuery for_each_query) const {
    Query query(grid_);
    Row key(grid_.dim), value(grid_.dim_v), grad_key(grid_.dim), grad_value(grid_.dim_v);
    read(keys, at, key);
    read(values, at, value);
    const std::int64_t share = grid_.heads / grid_.heads_kv;
    for (std::int64_t head = at.head * share; head < (at.head + 1) * share; ++head) {
      for_each_query([&](const Token& token) {
        const std::int64_t row = (at.batch * grid_.tokens() + flat_index(grid_, token)) * grid_.heads + head;
        query.read_from(t_, {at.batch, token, head}, delta_[row]);
        const Pair terms = pair(query, key, value);
        add_scaled(grad_key, terms.grad_dot, query.query);
        add_scaled(grad_value, terms.probability, query.grad_output);
      });
    }
    write(grad_keys, at, grad_key);
    write(grad_values, at, grad_value);
  }

  const Problem& grid_;
  const BackwardViews& t_;
  const double* delta_;
  double scale_;
};

void backward(const Problem& grid, const Tiling&, const BackwardViews& t, const Execution& execution) {
  const std::int64_t queries = grid.batch * grid.tokens() * grid.heads;
  auto* delta = static_cast<double*>(execution.workspace);
  cpu::parallel_for(queries, execution.threads, [&](std::int64_t item, int) {
    const Place at = place_of(grid, grid.heads, item);
    Row output(grid.dim_v), grad_output(grid.dim_v);
    read(t.output, at, output);
    read(t.grad_output, at, grad_output);
    delta[item] = dot(output, grad_output) - (t.grad_logsumexp ? read_number(t.grad_logsumexp, at) : 0.0);
  });

  const Gradients gradients(grid, t, delta);
  cpu::parallel_for(queries, execution.threads, [&](std::int64_t item, int) { gradients.write_grad_query(item); });
  cpu::parallel_for(grid.batch * grid.tokens() * grid.heads_kv, execution.threads,
                    [&](std::int64_t item, int) { gradients.write_grad_key_value(item); });
  cpu::parallel_for(grid.batch * grid.extra_kv * grid.heads_kv, execution.threads,
                    [&](std::int64_t item, int) { gradients.write_grad_extra(item); });
}

Status supports(const Problem&) { return {}; }

Tiling tiling(const Problem&) { return {}; }

Status accepts(const Problem&, const Tiling& forced) {
  if (forced == Tiling{}) return {};
  return Status::refuse("works on one pair at a time; allowed: every extent of the tiling 1");
}

template <Operation kOperation>
Cost cost(const Problem& grid, const Tiling&) {
  constexpr double kPerCycle = 0.1;  // measured: the conversion of every element to float64 dominates
  const double work = multiply_adds(grid, kOperation, needed_pairs(grid));
  const double bytes = compulsory_bytes(grid, kOperation);
  return {work, work, bytes, cpu_seconds(work, kPerCycle, bytes)};
}

std::size_t no_workspace(const Problem&, const Tiling&) { return 0; }

std::size_t delta_bytes(const Problem& grid, const Tiling&) {
  return sizeof(double) * static_cast<std::size_t>(grid.batch * grid.tokens() * grid.heads);
}

}  // namespace

constinit const KernelRow kReferenceForward{
    .name = "reference_forward",
    .backend = "reference",
    .operation = Operation::forward,
    .device = DeviceType::cpu,
    .supports = supports,
    .tiling = tiling,
    .accepts = accepts,
    .cost = cost<Operation::forward>,
    .workspace = no_workspace,
    .forward = forward,
};

constinit const KernelRow kReferenceBackward{
    .name = "reference_backward",
    .backend = "reference",
    .operation = Operation::backward,
    .device = DeviceType::cpu,
    .supports = supports,
    .tiling = tiling,
    .accepts = accepts,
    .cost = cost<Operation::backward>,
    .workspace = delta_bytes,
    .backward = backward,
};

}  // namespace vicinal
