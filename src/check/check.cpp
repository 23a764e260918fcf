#include "check/check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "check/compare.h"
#include "check/counts.h"
#include "check/device_run.h"
#include "check/expected.h"
#include "check/passes.h"
#include "check/random.h"
#include "check/test_tensor.h"
#include "check/unfused_expected.h"
#include "core/neighbors.h"
#include "core/tensors.h"
#include "cpu/parallel.h"
#include "cuda/devices.h"
#include "vicinal/attention.h"

namespace vicinal::check {
namespace {

/// For as long as it lives kernels on a GPU use no more multiprocessors.
class Multiprocessors {
 public:
  explicit Multiprocessors(int most) { cuda::use_multiprocessors(most); }
  ~Multiprocessors() { cuda::use_multiprocessors(cuda::kAllMultiprocessors); }
  Multiprocessors(const Multiprocessors&) = delete;
  Multiprocessors& operator=(const Multiprocessors&) = delete;
};

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

/// One position wide where it could be longer; with an odd number of positions, which fills no vector, instruction or
/// warp; or any.
enum class TileKind : std::uint8_t { thin, odd, any };

/// What each problem is forced through, beside the planned tiling.
struct TileKinds {
  TileKind queries, keys;
};
constexpr std::array kTilings{TileKinds{TileKind::thin, TileKind::any}, TileKinds{TileKind::any, TileKind::thin},
                              TileKinds{TileKind::odd, TileKind::odd}, TileKinds{TileKind::any, TileKind::any}};

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
      for (int run = 1; run < case_.gpu_runs; ++run) {
        const Multiprocessors few(run % 2 == 1 ? 6 : cuda::kAllMultiprocessors);
        expect_again(plan, 2, first);
      }
    }
    try_tilings(plan);
    if (problem_.batch > 0) expect_isolation(plan, first);
    expect_counts("planned tiling", plan);
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

  // Of random shape and at most `volume` positions.
  PerAxis<std::int64_t> random_tile(std::int64_t volume, TileKind kind) {
    PerAxis<std::int64_t> tile{1, 1, 1};
    const Problem grid = padded_to_rank_3(problem_);
    const bool thin = kind == TileKind::thin;
    const bool odd = kind == TileKind::odd;
    auto first = static_cast<int>(random_.between(0, 2));
    for (int i = 0; thin && i < 2 && grid.layout[first] == 1; ++i) first = (first + 1) % 3;
    const bool inside = random_.chance(0.5);  // the grid, so that most of its positions hold tokens
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
    constexpr int kMostTries = 20;
    const std::vector<Tiling> accepted = accepted_tilings(plan);
    if (accepted.empty()) return;
    std::size_t done = 0;
    for (int i = 0; i < kMostTries && done < kTilings.size(); ++i) {
      Tiling tiling = accepted[random_.between(0, static_cast<std::int64_t>(accepted.size()) - 1)];
      tiling.query_tile = random_tile(tiling.rows, kTilings[done].queries);
      tiling.key_tile = random_tile(tiling.columns, kTilings[done].keys);
      if (tiling == plan.tiling || !kernel_.accepts(padded_to_rank_3(problem_), tiling).ok()) continue;
      ++done;
      const std::string what =
          fmt::format("tiling of {} queries and {} keys of {} columns, block {}", fmt::join(tiling.query_tile, "x"),
                      fmt::join(tiling.key_tile, "x"), tiling.columns, fmt::join(tiling.block, "x"));
      expect_exact(what, execute(what, plan_with(tiling), inputs_, 2));
      expect_counts(what, plan_with(tiling));
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

  struct Counted {
    Counts counts;
    InputTensors inputs;
    std::vector<double> values;   ///< forward: their sums, for each query
    Counts::Gradients gradients;  ///< backward: of the values
    Counts::Gradients sizes;      ///< sums of magnitudes instead
  };

  /// The inputs with queries of zero, and whole numbers where sums of them are looked at.
  [[nodiscard]] Counted make_counted() const {
    Counted counted{Counts(problem_), inputs_, {}, {}, {}};
    Inputs values = values_;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const InputSpec<Tensors>& spec = P::kInputs[i];
      if (!inputs_[i].present()) continue;
      std::vector<double> v;
      if (spec.values == &Inputs::query) {
        v = values.query = std::vector<double>(values.query.size());
      } else if (spec.values == &Inputs::grad_output || spec.shape == &Shapes::value ||
                 spec.shape == &Shapes::extra_value) {
        for (double& value : values.*spec.values) value = std::round(value);
        v = values.*spec.values;
      } else if (spec.values == nullptr && spec.shape == &Shapes::logsumexp) {
        for (std::int64_t row = 0; row < shapes_.logsumexp.rows(); ++row) {
          v.push_back(std::log(counted.counts.neighbors(row)));
        }
      } else {
        continue;
      }
      counted.inputs[i].store(v);
    }
    if constexpr (P::kOperation == Operation::forward) {
      counted.values = counted.counts.sums_of_values(values);
    } else {
      counted.gradients = counted.counts.gradients_of_values(values.grad_output);
      for (double& value : values.grad_output) value = std::abs(value);
      counted.sizes = counted.counts.gradients_of_values(values.grad_output);
    }
    return counted;
  }

  /// Every neighbor once, and nothing else.
  void expect_counts(std::string_view what, const Plan& plan) {
    if constexpr (P::kOperation == Operation::forward || P::kOperation == Operation::backward) {
      if (problem_.batch == 0) return;
      Counted& counted = counted_ ? *counted_ : counted_.emplace(make_counted());
      const std::string counting = fmt::format("counting, {}", what);
      const ResultTensors results = execute(counting, plan, counted.inputs, 2);
      if constexpr (P::kOperation == Operation::forward) {
        expect_counted_keys(counting, counted, results[0].load(), results[1].load());
      } else {
        expect_counted_queries(counting, counted, results);
      }
    }
  }

  void expect_counted_keys(std::string_view what, const Counted& counted, const std::vector<double>& output,
                           const std::vector<double>& logsumexp) {
    const std::int64_t dim_v = problem_.dim_v;
    for (std::int64_t row = 0; row < std::ssize(logsumexp); ++row) {
      const double count = counted.counts.neighbors(row);
      bool matches = std::abs(logsumexp[row] - std::log(count)) < 1e-5;
      for (std::int64_t e = row * dim_v; e < (row + 1) * dim_v; ++e) {
        const double sum = counted.values[e];
        matches = matches && std::abs(output[e] * count - sum) <= 1e-3 + 2 * rounding() * std::abs(sum);
      }
      if (matches) continue;
      return fail(fmt::format("{} at {}: {} neighbors, but exp(logsumexp) = {:.6g}, or the sum of values is wrong",
                              what, place_of_row(shapes_.logsumexp, row), count, std::exp(logsumexp[row])));
    }
  }

  /// Gradients of keys are products with queries of zero; those of values are sums over queries, whose weights the
  /// kernel may round.
  void expect_counted_queries(std::string_view what, const Counted& counted, const ResultTensors& results) {
    for (std::size_t i = 0; i < results.size(); ++i) {
      const ResultSpec<Tensors>& spec = P::kResults[i];
      const bool extra = spec.shape == &Shapes::extra_key || spec.shape == &Shapes::extra_value;
      const bool of_values = spec.shape == &Shapes::value || spec.shape == &Shapes::extra_value;
      if (spec.shape == &Shapes::query || !results[i].present()) continue;
      const std::vector<double> result = results[i].load();
      for (std::size_t e = 0; e < result.size(); ++e) {
        const double sum = of_values ? (extra ? counted.gradients.extras : counted.gradients.keys)[e] : 0;
        const double size = of_values ? (extra ? counted.sizes.extras : counted.sizes.keys)[e] : 0;
        if (std::abs(result[e] - sum) <= 2 * rounding() * (size + std::abs(sum))) continue;
        const auto row = static_cast<std::int64_t>(e) / (shapes_.*spec.shape).row_elements();
        return fail(fmt::format("{}, {} at {}: {:.6g} instead of {:.6g}", what, spec.name,
                                place_of_row(shapes_.*spec.shape, row), result[e], sum));
      }
    }
  }

  /// Of results, and, in 16 bits, of weights; in float32 logsumexp makes weights worse than they are otherwise.
  [[nodiscard]] double rounding() const {
    switch (problem_.dtype) {
      case DType::bf16: return 0x1p-8;
      case DType::fp16: return 0x1p-11;
      default: return P::kOperation == Operation::forward ? 0x1p-22 : 0x1p-18;
    }
  }

  const Case& case_;
  Problem problem_;
  const KernelRow& kernel_;
  Report& report_;
  Shapes shapes_;
  Random random_;
  InputTensors inputs_;
  std::optional<Counted> counted_;
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
