// vicinal tilings: how good the tile shapes are that the planner chooses.

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "bench/machine.h"
#include "bench/record.h"
#include "bench/suite.h"
#include "bench/workload.h"
#include "check/random.h"
#include "commands.h"
#include "core/tiling.h"
#include "cuda/devices.h"
#include "options.h"
#include "plan/cost.h"
#include "plan/registry.h"
#include "table.h"

namespace vicinal::cli {
namespace {

using Json = nlohmann::ordered_json;

struct TilingsArguments {
  std::string suite;
  std::int64_t random_problems = 0;
  std::uint64_t seed = 0;
  std::int64_t best = 64;
  std::int64_t others = 64;
  std::string backend = "fused";
  DType dtype = DType::fp16;
  Device device{};
  std::string record;
};

/// A problem of which one run takes a modern GPU about a millisecond at most.
Problem random_problem(check::Random& random) {
  constexpr double kMostMultiplyAdds = 1e11;
  Problem p;
  p.rank = static_cast<int>(random.between(1, 3));
  const std::int64_t longest = p.rank == 1 ? 32768 : p.rank == 2 ? 192 : 48;
  p.dim = p.dim_v = random.one_of<std::int64_t>({32, 32, 64, 64, 64, 96, 128, 128, 128, 192, 256});
  for (int a = 0; a < p.rank; ++a) {
    p.layout[a] = random.between(longest / 8, longest);
    p.dilation[a] = random.chance(0.8) ? 1 : random.between(2, 8);
    const std::int64_t most = p.layout[a] / p.dilation[a];
    p.window[a] = std::clamp<std::int64_t>(random.between(1, random.chance(0.5) ? most / 4 : most), 1, most);
    p.stride[a] = random.chance(0.75) ? 1 : random.between(1, p.window[a]);
    p.causal[a] = random.chance(0.15);
  }
  p.heads = p.heads_kv = random.between(1, 16);
  p.batch = random.between(1, 8);
  const auto work = [&] {
    const Problem grid = padded_to_rank_3(p);
    return multiply_adds(grid, Operation::forward, needed_pairs(grid));
  };
  while (p.batch > 1 && work() > kMostMultiplyAdds) --p.batch;
  while (p.heads > 1 && work() > kMostMultiplyAdds) p.heads = --p.heads_kv;
  return p;
}

std::vector<bench::NamedProblem> problems_of(const TilingsArguments& arguments) {
  std::vector<bench::NamedProblem> problems;
  if (!arguments.suite.empty()) problems = bench::load_suite(arguments.suite);
  check::Random random(arguments.seed);
  for (std::int64_t n = 0; n < arguments.random_problems; ++n) {
    problems.push_back({fmt::format("random {}", n), random_problem(random)});
  }
  for (bench::NamedProblem& named : problems) {
    named.problem.dtype = arguments.dtype;
    named.problem.device = arguments.device;
  }
  if (problems.empty()) {
    throw Error(ErrorKind::invalid_argument, "no problems; allowed: --suite, --random-problems or both");
  }
  return problems;
}

struct Measured {
  Plan plan;
  double seconds;
};

/// A problem's tilings: that of the planner first, then those its model likes best, then others.
struct Study {
  std::string name;
  std::vector<Measured> tilings;

  [[nodiscard]] double fastest() const {
    return std::ranges::min_element(tilings, {}, &Measured::seconds)->seconds;
  }
  /// Time of the planner's choice over that of the best.
  [[nodiscard]] double ratio() const { return tilings.front().seconds / fastest(); }
};

std::vector<Tiling> tilings_of(const Plan& plan, const TilingsArguments& arguments, check::Random& random) {
  const Problem grid = padded_to_rank_3(plan.problem);
  std::vector<Tiling> all = plan.kernel->tilings(grid, std::numeric_limits<std::size_t>::max());
  std::vector<Tiling> chosen{plan.tiling};
  const std::int64_t best = std::min(arguments.best, std::ssize(all));
  chosen.insert(chosen.end(), all.begin(), all.begin() + best);
  all.erase(all.begin(), all.begin() + best);
  for (std::int64_t n = 0; n < arguments.others && !all.empty(); ++n) {
    const std::int64_t at = random.between(0, std::ssize(all) - 1);
    chosen.push_back(all[at]);
    all[at] = all.back();
    all.pop_back();
  }
  return chosen;
}

/// Measures each tiling, the planner's with most care; those that prove hopeless once only.
Study study(const bench::NamedProblem& named, const TilingsArguments& arguments, check::Random& random) {
  constexpr double kHopeless = 2;
  PlanOptions options{.backend = arguments.backend, .tiling = {}};
  const Plan chosen = make_plan(named.problem, Operation::forward, options);
  if (chosen.kernel->tilings == nullptr) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} has no choice of tiles; allowed: kernels with a model of "
                                                         "their tiles, such as fused_sm90_forward",
                                                         chosen.kernel_name()));
  }
  bench::Workload workload(chosen, 2, 0);
  bench::DeviceClock clock(named.problem.device.index);
  const auto time = [&](const Plan& plan, const bench::MeasureOptions& measure) {
    workload.use(plan);
    return bench::measure([&](std::int64_t repetition) { workload.run(repetition); }, measure, clock).median;
  };
  Study result{named.name, {}};
  double fastest = std::numeric_limits<double>::infinity();
  for (const Tiling& tiling : tilings_of(chosen, arguments, random)) {
    options.tiling = tiling;
    Measured measured{make_plan(named.problem, Operation::forward, options), 0};
    const bench::MeasureOptions once{.warmup_seconds = 0, .budget_seconds = 0, .min_repetitions = 1};
    const bench::MeasureOptions often{.warmup_seconds = 0, .budget_seconds = 2e-3, .min_repetitions = 5};
    measured.seconds = time(measured.plan, once);
    if (measured.seconds < kHopeless * fastest) measured.seconds = time(measured.plan, often);
    fastest = std::min(fastest, measured.seconds);
    result.tilings.push_back(std::move(measured));
  }
  // Once more for those in the lead: the fastest of many is otherwise the luckiest.
  for (Measured& measured : result.tilings) {
    const bool in_lead = measured.seconds < 1.03 * fastest;
    if (!in_lead && &measured != &result.tilings.front()) continue;
    measured.seconds = time(measured.plan, {.warmup_seconds = 0, .budget_seconds = 5e-3, .min_repetitions = 9});
  }
  return result;
}

Json tiling_json(const Measured& measured) {
  const Tiling& tiling = measured.plan.tiling;
  const Cost& cost = measured.plan.cost;
  return {{"query_tile", tiling.query_tile},
          {"key_tile", tiling.key_tile},
          {"block", tiling.block},
          {"columns", tiling.columns},
          {"visited_multiply_adds", cost.visited_multiply_adds},
          {"masked_multiply_adds", cost.masked_multiply_adds},
          {"work_items", cost.work_items},
          {"estimated_seconds", cost.seconds},
          {"seconds", measured.seconds}};
}

void save(const TilingsArguments& arguments, const std::vector<Study>& studies) {
  Json list = Json::array();
  for (const Study& s : studies) {
    Json tilings = Json::array();
    for (const Measured& measured : s.tilings) tilings.push_back(tiling_json(measured));
    const Plan& chosen = s.tilings.front().plan;
    list.push_back({{"name", s.name},
                    {"problem", bench::problem_json(chosen.problem)},
                    {"kernel", chosen.kernel_name()},
                    {"ratio", s.ratio()},
                    {"tilings", tilings}});
  }
  bench::save_json(arguments.record, {{"gpu", bench::gpu_name(arguments.device)},
                                      {"commit", bench::commit()},
                                      {"date", bench::utc_now()},
                                      {"seed", arguments.seed},
                                      {"studies", list}});
}

/// How many choices take at most so many times as long as the best tiling.
std::string histogram(const std::vector<Study>& studies) {
  Table table({"time of the choice / that of the best", "problems", ""});
  constexpr std::array kEdges{1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5, std::numeric_limits<double>::infinity()};
  for (std::size_t edge = 1; edge < kEdges.size(); ++edge) {
    const auto count = std::ranges::count_if(studies, [&](const Study& s) {
      return s.ratio() <= kEdges[edge] && (edge == 1 || s.ratio() > kEdges[edge - 1]);
    });
    const std::string range = edge + 1 < kEdges.size() ? fmt::format("{:.2f} to {:.2f}", kEdges[edge - 1], kEdges[edge])
                                                       : fmt::format("above {:.2f}", kEdges[edge - 1]);
    table.add({range, fmt::format("{}", count), std::string(static_cast<std::size_t>(count), '#')});
  }
  return table.text();
}

ExitCode run_tilings(const TilingsArguments& arguments) {
  require_device(arguments.device);
  if (!arguments.record.empty()) bench::require_writable(arguments.record);
  check::Random random(arguments.seed + 1);
  std::vector<Study> studies;
  Table table({"problem", "chosen", "best", "ratio", "queries", "keys", "best queries", "best keys"});
  for (const bench::NamedProblem& named : problems_of(arguments)) {
    studies.push_back(study(named, arguments, random));
    const Study& s = studies.back();
    const Tiling& chosen = s.tilings.front().plan.tiling;
    const Tiling& best = std::ranges::min_element(s.tilings, {}, &Measured::seconds)->plan.tiling;
    const auto queries = [](const Tiling& t) {
      return fmt::format("{} by {}", fmt::join(t.query_tile, "x"), fmt::join(t.block, "x"));
    };
    table.add({s.name, format_seconds(s.tilings.front().seconds), format_seconds(s.fastest()),
               fmt::format("{:.3f}", s.ratio()), queries(chosen), fmt::format("{}", fmt::join(chosen.key_tile, "x")),
               queries(best), fmt::format("{}", fmt::join(best.key_tile, "x"))});
  }
  fmt::print("{}\n{}", table.text(), histogram(studies));
  if (!arguments.record.empty()) save(arguments, studies);
  return kSuccess;
}

}  // namespace

Command add_tilings(CLI::App& program) {
  CLI::App* command = program.add_subcommand("tilings", "Compare the planner's tiles with others, on a GPU");
  command->footer(
      "Example:\n"
      "  vicinal tilings --suite benchmarks/suites/headline.json --random-problems 100 --json tilings.json\n\n"
      "For each problem the forward pass runs with the tiles of the planner, with those that its model likes best and\n"
      "with random ones. The histogram counts problems by the time of the choice over that of the best.");
  const auto arguments = std::make_shared<TilingsArguments>();
  command->add_option("--suite", arguments->suite, "A JSON list of problems")->check(CLI::ExistingFile);
  command->add_option("--random-problems", arguments->random_problems, "As many random ones")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", arguments->seed, "Of random problems and tiles")->capture_default_str();
  command->add_option("--best", arguments->best, "Tilings that the model likes best")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--others", arguments->others, "Random tilings")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--backend", arguments->backend, "Only kernels of this backend")->capture_default_str();
  command
      ->add_option_function<std::string>(
          "--dtype", [=](const std::string& text) { arguments->dtype = bench::parse_dtype(text); }, "fp16 or bf16")
      ->type_name("TEXT");
  arguments->device = {.type = DeviceType::cuda, .index = 0};
  command
      ->add_option_function<std::string>(
          "--device", [=](const std::string& text) { arguments->device = bench::parse_device(text); }, "cuda or cuda:1")
      ->type_name("TEXT");
  command->add_option("--json", arguments->record, "Write a record of all times")->type_name("FILE");
  return {command, [=] { return run_tilings(*arguments); }};
}

}  // namespace vicinal::cli
