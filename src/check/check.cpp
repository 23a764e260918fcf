#include "check/check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "check/compare.h"
#include "check/device_run.h"
#include "check/expected.h"
#include "check/passes.h"
#include "check/random.h"
#include "check/test_tensor.h"
#include "check/unfused_expected.h"
#include "core/neighbors.h"
#include "core/tensors.h"
#include "cpu/parallel.h"
#include "vicinal/attention.h"

namespace vicinal::check {
namespace {

/// Workspace full of poison, with more of it behind.
class TestWorkspace {
 public:
  explicit TestWorkspace(std::size_t bytes) : bytes_(bytes), lines_(bytes / sizeof(Line) + 2) {
    std::fill_n(data(), lines_.size() * sizeof(Line), kPoison);
  }

  [[nodiscard]] std::byte* data() { return lines_.front().bytes.data(); }
  [[nodiscard]] std::span<std::byte> memory() { return {data(), lines_.size() * sizeof(Line)}; }

  [[nodiscard]] bool end_intact() {
    return std::all_of(data() + bytes_, data() + lines_.size() * sizeof(Line),
                       [](std::byte byte) { return byte == kPoison; });
  }

 private:
  static constexpr std::byte kPoison{0xff};
  struct alignas(64) Line {
    std::array<std::byte, 64> bytes;
  };
  std::size_t bytes_;
  std::vector<Line> lines_;
};

/// Numbers a row within its tensor: "[batch, axes..., head]".
std::string place_of_row(const Shape& shape, std::int64_t row) {
  std::vector<std::int64_t> place(shape.outer.size());
  for (std::size_t d = place.size(); d-- > 0; row /= shape.outer[d]) place[d] = row % shape.outer[d];
  return fmt::format("[{}]", fmt::join(place, ", "));
}

template <class Tensors>
class Check {
 public:
  using P = Pass<Tensors>;
  using InputTensors = std::array<TestTensor, P::kInputs.size()>;
  using ResultTensors = std::array<TestTensor, P::kResults.size()>;
  static constexpr bool kSumsOverQueries = P::kOperation == Operation::backward ||
                                           P::kOperation == Operation::inverse_neighborhood ||
                                           P::kOperation == Operation::bias_gradient;

  Check(const Case& c, const KernelRow& kernel, Report& report)
      : case_(c), problem_(c.problem), kernel_(kernel), report_(report), shapes_(c.problem), random_(c.seed) {}

  void run() {
    make_inputs();
    // Of copies on a GPU too, which lie as their originals do.
    if constexpr (!is_unfused(P::kOperation)) {
      problem_.alignment = std::min(problem_.alignment, alignment_of(tensors_of(inputs_)));
    }
    const Plan plan = plan_with(kernel_.tiling(padded_to_rank_3(problem_)));
    const ResultTensors first = execute("1 thread", plan, inputs_, 1);
    if (problem_.batch == 0 && P::kOperation != Operation::bias_gradient) return;
    expect_exact("planned tiling", first);
    if (problem_.device.type == DeviceType::cpu) {
      for (const int threads : {2, 3, 5}) expect_again(plan, threads, first);
    } else {
      for (int run = 1; run < case_.gpu_runs; ++run) expect_again(plan, 2, first);
    }
    try_tilings(plan);
    if (problem_.batch > 0) expect_isolation(plan, first);
    if constexpr (P::kOperation == Operation::forward) expect_counts(plan);
  }

 private:
  // What make_plan returns when it has no choice but this kernel, which need not be in the registry.
  [[nodiscard]] Plan plan_with(const Tiling& tiling) const {
    const Problem grid = padded_to_rank_3(problem_);
    return {.problem = problem_,
            .operation = P::kOperation,
            .kernel = &kernel_,
            .tiling = tiling,
            .cost = kernel_.cost(grid, tiling),
            .workspace_bytes = kernel_.workspace(grid, tiling),
            .refusals = {}};
  }

  void fail(std::string message) { report_.failures.push_back(std::move(message)); }

  [[nodiscard]] bool absent(Shape Shapes::* shape) const {
    return problem_.extra_kv == 0 && (shape == &Shapes::extra_key || shape == &Shapes::extra_value);
  }

  [[nodiscard]] TestTensor make_tensor(Shape Shapes::* shape, const Arrangement& arrangement) const {
    if (absent(shape)) return {};
    const DType dtype = shape == &Shapes::logsumexp ? logsumexp_dtype(problem_.dtype) : problem_.dtype;
    return {shapes_.*shape, dtype, arrangement};
  }

  std::vector<double> random_values(std::int64_t count, double magnitude) {
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& value : values) value = magnitude * (2 * random_.unit() - 1);
    return values;
  }

  // Values go through the tensors, so that rounding and zero strides are in what the oracle sees.
  void make_inputs() {
    for (std::size_t i = 0; i < P::kInputs.size(); ++i) {
      const InputSpec<Tensors>& spec = P::kInputs[i];
      if (spec.values == nullptr) continue;
      const bool optional = spec.values == &Inputs::grad_logsumexp || spec.values == &Inputs::bias;
      if (optional && !case_.with_optional_inputs) continue;
      inputs_[i] = make_tensor(spec.shape, case_.inputs[spec.arrangement]);
      if (!inputs_[i].present()) continue;
      const double magnitude = spec.values == &Inputs::query ? case_.query_magnitude : 1;
      std::vector<double> values = random_values((shapes_.*spec.shape).elements(), magnitude);
      // Masked slots are not to be read; under a zero stride other slots would be NaN with them.
      if (spec.shape == &Shapes::weights && case_.inputs[spec.arrangement].broadcast == 0) {
        fill_masked_slots(problem_, std::numeric_limits<double>::quiet_NaN(), values);
      }
      inputs_[i].store(values);
      values_.*spec.values = inputs_[i].load();
    }
    if constexpr (is_unfused(P::kOperation)) {
      exact_ = unfused_results(problem_, values_, P::kOperation, case_.masked).results;
      straightforward_ = rounded_unfused_results(problem_, values_, P::kOperation, case_.masked);
    } else {
      exact_ = exact_results(problem_, values_, P::kOperation);
      straightforward_ = straightforward_results(problem_, values_, P::kOperation);
    }
    for (std::size_t i = 0; i < P::kInputs.size(); ++i) {
      const InputSpec<Tensors>& spec = P::kInputs[i];
      if (spec.values != nullptr) continue;
      Arrangement arrangement = case_.inputs[spec.arrangement];
      arrangement.broadcast = 0;  // its values differ along every dimension
      inputs_[i] = make_tensor(spec.shape, arrangement);
      inputs_[i].store(spec.shape == &Shapes::output ? exact_.output : exact_.logsumexp);
    }
  }

  [[nodiscard]] Tensors tensors_of(InputTensors& inputs) const {
    Tensors tensors;
    for (std::size_t i = 0; i < inputs.size(); ++i) tensors.*P::kInputs[i].tensor = inputs[i].tensor();
    return tensors;
  }

  /// One run of the kernel on poisoned results and workspace; `without` names a result that is not asked for.
  ResultTensors execute(std::string_view what, const Plan& plan, InputTensors& inputs, int threads,
                        std::string_view without = "") {
    const InputTensors before = inputs;
    ResultTensors results;
    Tensors tensors = tensors_of(inputs);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const ResultSpec<Tensors>& spec = P::kResults[i];
      if (spec.name == without) continue;
      results[i] = make_tensor(spec.shape, case_.results[spec.arrangement]);
      tensors.*spec.tensor = results[i].tensor();
    }
    if constexpr (P::kOperation == Operation::pointwise_neighborhood) tensors.masked = case_.masked;
    TestWorkspace workspace(plan.workspace_bytes);
    std::vector<std::span<std::byte>> memory;
    for (TestTensor& tensor : inputs) memory.push_back(tensor.memory());
    for (TestTensor& tensor : results) memory.push_back(tensor.memory());
    run_anywhere(plan, tensors, memory, workspace.memory(), threads);

    for (std::size_t i = 0; i < results.size(); ++i) {
      if (results[i].present() && !results[i].surroundings_intact()) {
        fail(fmt::format("{}: {} is written outside of its elements", what, P::kResults[i].name));
      }
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].memory() != before[i].memory()) fail(fmt::format("{}: input {} is written to", what, i));
    }
    if (!workspace.end_intact()) fail(fmt::format("{}: written beyond the end of the workspace", what));
    return results;
  }

  void judge(std::string_view what, std::string_view kind, double error, double limit) {
    report_.worst = std::max(report_.worst, error / limit);
    if (!(error <= limit)) fail(fmt::format("{}: {} is {:.3g}, limit {:.3g}", what, kind, error, limit));
  }

  void expect_exact(std::string_view what, const ResultTensors& results) {
    for (std::size_t i = 0; i < results.size(); ++i) {
      const ResultSpec<Tensors>& spec = P::kResults[i];
      if (!results[i].present()) continue;
      const std::vector<double> result = results[i].load();
      const std::vector<double>& exact = exact_.*spec.values;
      const std::string name = fmt::format("{}, {}", what, spec.name);
      if (spec.values == &Results::logsumexp) {
        double worst = 0;
        for (std::size_t j = 0; j < exact.size(); ++j) {
          const double error = std::abs(result[j] - exact[j]);
          worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
        }
        judge(name, "the largest error", worst, logsumexp_limit(problem_.dtype));
        continue;
      }
      const std::vector<double>& magnitudes = straightforward_.magnitudes.*spec.values;
      const RelativeError baseline =
          relative_error(straightforward_.results.*spec.values, exact, magnitudes, problem_.dtype);
      if (problem_.dtype == DType::fp64 || problem_.dtype == DType::fp32) {
        judge(name, "the difference of the two oracles", baseline.worst_row, 1e-11);
      }
      const RelativeError error = relative_error(result, exact, magnitudes, problem_.dtype);
      const RelativeError limit = error_limit(problem_, kSumsOverQueries, baseline);
      judge(name, "the relative error", error.overall, limit.overall);
      judge(fmt::format("{} at {}", name, place_of_row(shapes_.*spec.shape, error.row)),
            "the relative error of the row", error.worst_row, limit.worst_row);
    }
  }

  // Forward with two threads also leaves out logsumexp, which must not change the output. A GPU has a number of threads
  // of its own.
  void expect_again(const Plan& plan, int threads, const ResultTensors& first) {
    const std::string what = fmt::format("{} threads", threads);
    const ResultTensors results = execute(what, plan, inputs_, threads, threads == 2 ? "logsumexp" : "");
    if (!kernel_.deterministic) return expect_exact(what, results);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (results[i].present() && results[i].memory() != first[i].memory()) {
        fail(fmt::format("{}: {} differs from that of 1 thread", what, P::kResults[i].name));
      }
    }
  }

  // A tile of random shape and at most `volume` positions. Some are one position wide where they could be longer, and
  // some have an odd number of positions, which fills no vector, instruction or warp.
  PerAxis<std::int64_t> random_tile(std::int64_t volume) {
    PerAxis<std::int64_t> tile{1, 1, 1};
    const auto first = static_cast<int>(random_.between(0, 2));
    const bool thin = random_.chance(0.25);
    const bool odd = random_.chance(0.25);
    const bool inside = random_.chance(0.5);  // the grid, so that most of its positions hold tokens
    const Problem grid = padded_to_rank_3(problem_);
    for (int i = thin ? 1 : 0; i < 3; ++i) {
      const int axis = (first + i) % 3;
      const std::int64_t most = inside ? std::min(volume, ceil_div(grid.layout[axis], grid.dilation[axis])) : volume;
      tile[axis] = random_.between(1, most);
      if (odd && tile[axis] % 2 == 0) --tile[axis];
      volume /= tile[axis];
    }
    return tile;
  }

  /// The blocks and numbers of columns that the kernel takes beside those of its plan.
  [[nodiscard]] std::vector<Tiling> accepted_tilings(const Plan& plan) const {
    using Block = PerAxis<std::int64_t>;
    std::vector<Tiling> accepted;
    for (const Block& block : {plan.tiling.block, Block{1, 1, 1}, Block{2, 1, 1}, Block{1, 2, 1}, Block{1, 1, 2}}) {
      for (const std::int64_t columns :
           {plan.tiling.columns, std::int64_t{32}, std::int64_t{64}, std::int64_t{96}, std::int64_t{128}}) {
        Tiling tiling{.block = block, .rows = plan.tiling.rows, .columns = columns};
        if (!kernel_.accepts(padded_to_rank_3(problem_), tiling).ok()) continue;
        if (std::ranges::find(accepted, tiling) == accepted.end()) accepted.push_back(tiling);
      }
    }
    return accepted;
  }

  void try_tilings(const Plan& plan) {
    constexpr int kTilings = 4;
    const std::vector<Tiling> accepted = accepted_tilings(plan);
    if (accepted.empty()) return;
    for (int i = 0; i < kTilings; ++i) {
      Tiling tiling = accepted[random_.between(0, static_cast<std::int64_t>(accepted.size()) - 1)];
      tiling.query_tile = random_tile(tiling.rows);
      tiling.key_tile = random_tile(tiling.columns);
      if (tiling == plan.tiling || !kernel_.accepts(padded_to_rank_3(problem_), tiling).ok()) continue;
      const std::string what =
          fmt::format("tiling of {} queries and {} keys of {} columns, block {}", fmt::join(tiling.query_tile, "x"),
                      fmt::join(tiling.key_tile, "x"), tiling.columns, fmt::join(tiling.block, "x"));
      expect_exact(what, execute(what, plan_with(tiling), inputs_, 2));
    }
  }

  /// Whether a row of a tensor belongs to a batch entry and key/value head; a bias belongs to all batch entries.
  [[nodiscard]] bool belongs(Shape Shapes::* member, std::int64_t row, std::int64_t batch, std::int64_t head_kv) const {
    const Shape& shape = shapes_.*member;
    const std::int64_t share = problem_.heads / problem_.heads_kv;
    if (member == &Shapes::bias) return row / (shape.rows() / problem_.heads) / share == head_kv;
    const std::int64_t heads = shape.outer.back();
    return row / (shape.rows() / problem_.batch) == batch && row % heads / (heads / problem_.heads_kv) == head_kv;
  }

  void expect_isolation(const Plan& plan, const ResultTensors& first) {
    if (problem_.batch * problem_.heads_kv == 1) return;
    const std::int64_t batch = random_.between(0, problem_.batch - 1);
    const std::int64_t head_kv = random_.between(0, problem_.heads_kv - 1);
    InputTensors poisoned = inputs_;
    for (std::size_t i = 0; i < poisoned.size(); ++i) {
      const InputSpec<Tensors>& spec = P::kInputs[i];
      const Shape& shape = shapes_.*spec.shape;
      const auto heads_dimension = shape.outer.size() - 1;
      const unsigned shared = 1U | 1U << heads_dimension;
      const bool is_shared = spec.shape == &Shapes::bias ||
                             (spec.values != nullptr && (case_.inputs[spec.arrangement].broadcast & shared) != 0);
      if (!poisoned[i].present() || is_shared) continue;
      std::vector<double> values = poisoned[i].load();
      for (std::int64_t row = 0; row < shape.rows(); ++row) {
        if (!belongs(spec.shape, row, batch, head_kv)) continue;
        std::fill_n(values.begin() + row * shape.row_elements(), shape.row_elements(),
                    std::numeric_limits<double>::quiet_NaN());
      }
      poisoned[i].store(values);
    }
    const ResultTensors results = execute("NaN in one head", plan, poisoned, 2);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto member = P::kResults[i].shape;
      const Shape& shape = shapes_.*member;
      const std::vector<double> with = results[i].load(), without = first[i].load();
      for (std::int64_t e = 0; e < static_cast<std::int64_t>(with.size()); ++e) {
        const std::int64_t row = e / shape.row_elements();
        const bool unchanged = kernel_.deterministic ? with[e] == without[e] : !std::isnan(with[e]);
        if (unchanged || belongs(member, row, batch, head_kv)) continue;
        fail(fmt::format("NaN in batch entry {}, key/value head {} changes {} at {}", batch, head_kv,
                         P::kResults[i].name, place_of_row(shape, row)));
        break;
      }
    }
  }

  // With a query of zero every neighbor has the same weight, so values of -1, 0 and 1 have an exact sum.
  void expect_counts(const Plan& plan) {
    InputTensors inputs = inputs_;
    Inputs values = values_;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const InputSpec<Tensors>& spec = P::kInputs[i];
      if (!inputs[i].present() || spec.shape == &Shapes::key || spec.shape == &Shapes::extra_key) continue;
      std::vector<double>& v = values.*spec.values;
      for (double& value : v) value = spec.values == &Inputs::query ? 0 : std::round(value);
      inputs[i].store(v);
    }
    const ResultTensors results = execute("counting", plan, inputs, 2);
    const std::vector<double> output = results[0].load(), logsumexp = results[1].load();
    const Problem grid = padded_to_rank_3(problem_);
    const std::int64_t dim_v = problem_.dim_v;
    std::vector<std::int64_t> miscounted(logsumexp.size());  // for each row where that is wrong, its neighbors
    cpu::parallel_for(std::ssize(logsumexp), 0, [&](std::int64_t row, int) {
      const std::int64_t head_kv = row % grid.heads / (grid.heads / grid.heads_kv);
      const std::int64_t batch = row / grid.heads / grid.tokens();
      const Token token = token_at(grid, row / grid.heads % grid.tokens());
      std::int64_t count = 0;
      std::vector<double> sum(static_cast<std::size_t>(dim_v));
      const auto add = [&](const std::vector<double>& v, std::int64_t index) {
        ++count;
        for (std::int64_t i = 0; i < dim_v; ++i) sum[i] += v[(index * grid.heads_kv + head_kv) * dim_v + i];
      };
      for_each_neighbor(grid, token, &AxisWindow::keys_of, [&](const Token& neighbor) {
        add(values.value, batch * grid.tokens() + flat_index(grid, neighbor));
      });
      for (std::int64_t n = 0; n < grid.extra_kv; ++n) add(values.extra_value, batch * grid.extra_kv + n);
      const bool matches =
          count_matches(static_cast<double>(count), sum, logsumexp[row], std::span(output).subspan(row * dim_v, dim_v));
      miscounted[row] = matches ? 0 : count;
    });
    const auto wrong = std::ranges::find_if(miscounted, [](std::int64_t count) { return count != 0; });
    if (wrong == miscounted.end()) return;
    const std::int64_t row = wrong - miscounted.begin();
    fail(fmt::format("counting at {}: {} neighbors, but exp(logsumexp) = {:.6g}, or the sum of values is wrong",
                     place_of_row(shapes_.logsumexp, row), *wrong, std::exp(logsumexp[row])));
  }

  [[nodiscard]] bool count_matches(double count, std::span<const double> sum, double logsumexp,
                                   std::span<const double> output) const {
    // Of the rounding of the output, which is the sum divided by the count.
    const double epsilon = problem_.dtype == DType::bf16 ? 0x1p-8 : problem_.dtype == DType::fp16 ? 0x1p-11 : 0x1p-22;
    bool matches = std::abs(logsumexp - std::log(count)) < 1e-5;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      matches = matches && std::abs(output[i] * count - sum[i]) <= 1e-3 + 2 * epsilon * std::abs(sum[i]);
    }
    return matches;
  }

  const Case& case_;
  Problem problem_;
  const KernelRow& kernel_;
  Report& report_;
  Shapes shapes_;
  Random random_;
  InputTensors inputs_;
  Inputs values_;
  Results exact_;
  Straightforward straightforward_;
};

}  // namespace

Report check_case(const Case& asked, const KernelRow& kernel) {
  Report report;
  Case c = asked;
  if (is_unfused(kernel.operation)) c.problem.dim_v = c.problem.dim;  // these have one head dim
  if (const Status s = validate(c.problem, kernel.operation); !s.ok()) {
    throw Error(ErrorKind::invalid_argument, s.reason());
  }
  if (c.problem.device.type != kernel.device) {
    report.refusal = fmt::format("runs on {}", name_of(kernel.device));
    return report;
  }
  if (const Status s = kernel.supports(padded_to_rank_3(c.problem)); !s.ok()) {
    report.refusal = s.reason();
    return report;
  }
  const auto check = [&]<class Tensors>(Tensors) { Check<Tensors>(c, kernel, report).run(); };
  try {
    switch (kernel.operation) {
      case Operation::forward: check(ForwardTensors{}); break;
      case Operation::backward: check(BackwardTensors{}); break;
      case Operation::pointwise_neighborhood: check(PointwiseNeighborhoodTensors{}); break;
      case Operation::neighborhood_neighborhood: check(NeighborhoodNeighborhoodTensors{}); break;
      case Operation::inverse_neighborhood: check(InverseNeighborhoodTensors{}); break;
      case Operation::bias_gradient: check(BiasGradientTensors{}); break;
    }
  } catch (const Error& error) {
    report.failures.push_back(fmt::format("threw an error: {}", error.what()));
  }
  return report;
}

}  // namespace vicinal::check
