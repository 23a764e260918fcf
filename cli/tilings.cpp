// vicinal tilings: how good the tile shapes are that the planner chooses.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
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
#include "cuda/memory.h"
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
  std::string operation = "forward";
  std::string backend = "fused";
  std::optional<DType> dtype;
  Device device{.type = DeviceType::cuda, .index = 0};
  std::string record;
};

/// A problem of which one run takes a modern GPU about a millisecond at most.
Problem random_problem(check::Random& random) {
  constexpr double kMostMultiplyAdds = 1e11;
  constexpr std::int64_t kMostElements = std::int64_t{1} << 24;
  Problem p;
  p.rank = static_cast<int>(random.between(1, 3));
  const std::int64_t longest = p.rank == 1 ? 32768 : p.rank == 2 ? 192 : 48;
  p.dim = p.dim_v = random.one_of<std::int64_t>({32, 32, 64, 64, 64, 96, 128, 128, 128, 192, 256});
  for (int a = 0; a < p.rank; ++a) {
    p.layout[a] = random.between(longest / 8, longest);
    p.dilation[a] = random.chance(0.8) ? 1 : random.between(2, std::min<std::int64_t>(8, p.layout[a] / 2));
    const std::int64_t most = p.layout[a] / p.dilation[a];
    p.window[a] = std::clamp<std::int64_t>(random.between(1, random.chance(0.5) ? ceil_div(most, 4) : most), 1, most);
    p.stride[a] = random.chance(0.75) ? 1 : random.between(1, p.window[a]);
    p.causal[a] = random.chance(0.15);
  }
  p.dtype = DType::fp16;
  p.heads = p.heads_kv = random.between(1, 16);
  p.batch = random.between(1, 8);
  const auto work = [&] {
    const Problem grid = padded_to_rank_3(p);
    return multiply_adds(grid, Operation::forward, needed_pairs(grid));
  };
  const auto too_large = [&] {
    return work() > kMostMultiplyAdds || p.batch * p.tokens() * p.heads * p.dim > kMostElements;
  };
  while (p.batch > 1 && too_large()) --p.batch;
  while (p.heads > 1 && too_large()) p.heads = --p.heads_kv;
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
    named.problem.dtype = arguments.dtype.value_or(named.problem.dtype);
    named.problem.device = arguments.device;
  }
  if (problems.empty()) {
    throw Error(ErrorKind::invalid_argument, "no problems; allowed: --suite, --random-problems or both");
  }
  return problems;
}

struct Measured {
  Plan plan;
  double at_first;                 ///< seconds, one tiling after the other
  std::optional<double> in_turns;  ///< seconds, with the choice; of the choice and what seemed faster

  [[nodiscard]] double seconds() const { return in_turns.value_or(at_first); }
};

/// A problem's tilings: that of the planner first, then those its model likes best, then others.
struct Study {
  std::string name;
  std::vector<Measured> tilings;

  [[nodiscard]] const Measured& chosen() const { return tilings.front(); }
  /// Of those measured in turns, if there are any: no other seemed clearly faster than the choice.
  [[nodiscard]] const Measured& fastest() const {
    return *std::ranges::min_element(tilings, {}, [&](const Measured& measured) {
      const bool counts = measured.in_turns.has_value() == chosen().in_turns.has_value();
      return counts ? measured.seconds() : std::numeric_limits<double>::infinity();
    });
  }
  /// Time of the planner's choice over that of the fastest.
  [[nodiscard]] double ratio() const { return chosen().seconds() / fastest().seconds(); }
  /// The same by the first times alone.
  [[nodiscard]] double ratio_at_first() const {
    return chosen().at_first / std::ranges::min_element(tilings, {}, &Measured::at_first)->at_first;
  }
};

std::vector<Tiling> tilings_of(const Plan& plan, const TilingsArguments& arguments, check::Random& random) {
  const Problem grid = padded_to_rank_3(plan.problem);
  std::vector<Tiling> all = plan.kernel->tilings(grid, std::numeric_limits<std::size_t>::max());
  std::erase(all, plan.tiling);
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

/// Runs of a plan that follow each other, recorded: a slow host cannot come between them.
struct Recorded {
  cuda::Stream stream;
  int runs;

  Recorded(const Plan& plan, int as_many, bench::Workload& workload)
      : stream(plan.problem.device.index), runs(as_many) {
    workload.use(plan);
    stream.begin_capture();
    for (int run = 0; run < runs; ++run) workload.run(run, stream.get());
    stream.end_capture();
  }
};

/// Seconds of each plan as the medians of rounds in which they take turns: whatever clocks and neighbors do, they do it
/// to all. All have run before, so that workspace suffices and stays where recorded runs expect it.
std::vector<double> in_turns(const std::vector<const Measured*>& some, bench::Workload& workload) {
  constexpr std::int64_t kRounds = 9;
  constexpr std::int64_t kFewRounds = 3;
  constexpr double kRoundsSeconds = 50e-3;  // for as many rounds as fit
  constexpr double kRunsSeconds = 300e-6;   // for as many runs as fit
  constexpr double kMostRuns = 8;
  double of_all = 0;
  for (const Measured* measured : some) of_all += 2 * std::max(measured->at_first, kRunsSeconds);
  const auto rounds = std::clamp(static_cast<std::int64_t>(kRoundsSeconds / of_all), kFewRounds, kRounds);
  std::vector<Recorded> recorded;
  for (const Measured* measured : some) {
    const double runs = std::clamp(std::floor(kRunsSeconds / measured->at_first), 1.0, kMostRuns);
    recorded.emplace_back(measured->plan, static_cast<int>(runs), workload);
  }
  const cuda::Timer timer(some.front()->plan.problem.device.index);
  std::vector<std::vector<double>> seconds(some.size());
  for (std::int64_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < some.size(); ++i) {
      const cuda::Stream& stream = recorded[i].stream;
      stream.replay();  // untimed, while the host asks for the timed ones
      timer.start(stream.get());
      stream.replay();
      seconds[i].push_back(timer.stop(stream.get()) / recorded[i].runs);
    }
  }
  std::vector<double> medians(some.size());
  std::ranges::transform(seconds, medians.begin(), [](std::vector<double>& times) {
    std::ranges::sort(times);
    return times[times.size() / 2];
  });
  return medians;
}

/// Measures each tiling, those that prove slow once only, and then in turns the choice and those that seem faster: the
/// fastest of many is otherwise the luckiest.
Study study(const std::string& name, const Plan& chosen, const TilingsArguments& arguments, check::Random& random) {
  constexpr double kSlow = 2;     // times the fastest so far
  constexpr double kLong = 5e-3;  // seconds: once is enough
  constexpr bench::MeasureOptions kOnce{.warmup_seconds = 0, .budget_seconds = 0, .min_repetitions = 1};
  constexpr bench::MeasureOptions kOften{.warmup_seconds = 0, .budget_seconds = 2e-3, .min_repetitions = 5};
  bench::Workload workload(chosen, 1, 0);
  bench::DeviceClock clock(chosen.problem.device.index);
  double fastest = std::numeric_limits<double>::infinity();
  const auto time = [&](const Plan& plan) {
    const auto measure = [&](const bench::MeasureOptions& options) {
      return bench::measure([&](std::int64_t repetition) { workload.run(repetition); }, options, clock).median;
    };
    workload.use(plan);
    double seconds = measure(kOnce);
    if (seconds < std::min(kSlow * fastest, kLong)) seconds = measure(kOften);
    fastest = std::min(fastest, seconds);
    return seconds;
  };
  const std::vector<Tiling> tilings = tilings_of(chosen, arguments, random);
  // The card has rested meanwhile: its clock is low at first.
  constexpr bench::MeasureOptions kWarmUp{.warmup_seconds = 30e-3, .budget_seconds = 0, .min_repetitions = 1};
  bench::measure([&](std::int64_t repetition) { workload.run(repetition); }, kWarmUp, clock);
  Study result{name, {}};
  for (const Tiling& tiling : tilings) {
    const PlanOptions forced{.backend = std::string(chosen.kernel_name()), .tiling = tiling};
    Plan plan = make_plan(chosen.problem, chosen.operation, forced);
    const double seconds = time(plan);
    result.tilings.push_back({std::move(plan), seconds, {}});
  }
  // The choice was the first, and clocks drift: by the slower of its times at both ends.
  constexpr double kSeems = 1.03;
  constexpr std::size_t kMostOthers = 4;
  const double of_choice = std::max(result.chosen().at_first, time(result.chosen().plan));
  std::vector<Measured*> some;
  for (Measured& measured : result.tilings) {
    if (measured.at_first * kSeems < of_choice && &measured != &result.tilings.front()) some.push_back(&measured);
  }
  if (some.empty()) return result;
  std::ranges::sort(some, {}, &Measured::at_first);
  some.resize(std::min(some.size(), kMostOthers));
  some.insert(some.begin(), &result.tilings.front());
  const std::vector<double> seconds = in_turns({some.begin(), some.end()}, workload);
  for (std::size_t i = 0; i < some.size(); ++i) some[i]->in_turns = seconds[i];
  return result;
}

Json tiling_json(const Measured& measured) {
  const Tiling& tiling = measured.plan.tiling;
  const Cost& cost = measured.plan.cost;
  Json json{{"query_tile", tiling.query_tile},
            {"key_tile", tiling.key_tile},
            {"block", tiling.block},
            {"rows", tiling.rows},
            {"columns", tiling.columns},
            {"visited_multiply_adds", cost.visited_multiply_adds},
            {"masked_multiply_adds", cost.masked_multiply_adds},
            {"work_items", cost.work_items},
            {"bytes", cost.bytes},
            {"estimated_seconds", cost.seconds},
            {"seconds", measured.at_first}};
  if (measured.in_turns) json["seconds_in_turns"] = *measured.in_turns;
  return json;
}

void save(const TilingsArguments& arguments, const std::vector<Study>& studies) {
  Json list = Json::array();
  for (const Study& s : studies) {
    Json tilings = Json::array();
    for (const Measured& measured : s.tilings) tilings.push_back(tiling_json(measured));
    const Plan& chosen = s.chosen().plan;
    list.push_back({{"name", s.name},
                    {"problem", bench::problem_json(chosen.problem)},
                    {"operation", name_of(chosen.operation)},
                    {"kernel", chosen.kernel_name()},
                    {"needed_multiply_adds", chosen.cost.needed_multiply_adds},
                    {"ratio", s.ratio()},
                    {"ratio_at_first", s.ratio_at_first()},
                    {"tilings", tilings}});
  }
  bench::save_json(arguments.record, {{"gpu", bench::gpu_name(arguments.device)},
                                      {"commit", bench::commit()},
                                      {"date", bench::utc_now()},
                                      {"seed", arguments.seed},
                                      {"studies", list}});
}

/// How many choices take at most so many times as long as the fastest tiling.
std::string histogram(const std::vector<Study>& studies) {
  constexpr std::array kEdges{1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5, std::numeric_limits<double>::infinity()};
  std::vector<double> ratios(studies.size());
  std::ranges::transform(studies, ratios.begin(), &Study::ratio);
  std::ranges::sort(ratios);
  Table table({"chosen/fastest", "problems", ""});
  for (std::size_t edge = 1; edge < kEdges.size(); ++edge) {
    const auto first = edge == 1 ? ratios.begin() : std::ranges::upper_bound(ratios, kEdges[edge - 1]);
    const auto count = std::ranges::upper_bound(ratios, kEdges[edge]) - first;
    const std::string range = edge + 1 < kEdges.size() ? fmt::format("{:.2f} to {:.2f}", kEdges[edge - 1], kEdges[edge])
                                                       : fmt::format("above {:.2f}", kEdges[edge - 1]);
    table.add({range, fmt::format("{}", count), std::string(static_cast<std::size_t>(count), '#')});
  }
  const auto within = std::ranges::upper_bound(ratios, 1.1) - ratios.begin();
  return table.text() + fmt::format("chosen/fastest: median {:.3f}, worst {:.3f}, at most 1.10 for {} of {}\n",
                                    ratios[ratios.size() / 2], ratios.back(), within, ratios.size());
}

std::string table_of(const std::vector<Study>& studies) {
  Table table({"problem", "chosen", "fastest", "ratio", "queries", "keys", "fastest queries", "fastest keys"});
  const auto queries = [](const Measured& m) {
    return fmt::format("{} by {}", fmt::join(m.plan.tiling.query_tile, "x"), fmt::join(m.plan.tiling.block, "x"));
  };
  const auto keys = [](const Measured& m) { return fmt::format("{}", fmt::join(m.plan.tiling.key_tile, "x")); };
  for (const Study& s : studies) {
    table.add({s.name, format_seconds(s.chosen().seconds()), format_seconds(s.fastest().seconds()),
               fmt::format("{:.3f}", s.ratio()), queries(s.chosen()), keys(s.chosen()), queries(s.fastest()),
               keys(s.fastest())});
  }
  return table.text();
}

ExitCode run_tilings(const TilingsArguments& arguments) {
  const std::vector<bench::NamedProblem> problems = problems_of(arguments);
  if (arguments.device.type != DeviceType::cuda) {
    throw Error(ErrorKind::invalid_argument, "device = cpu; allowed: cuda, cuda:N");
  }
  require_device(arguments.device);
  if (!arguments.record.empty()) bench::require_writable(arguments.record);
  const Operation operation = operation_named(arguments.operation).value_or(Operation::forward);
  const bool on_terminal = isatty(STDERR_FILENO) == 1;
  check::Random random(arguments.seed + 1);
  std::vector<Study> studies;
  std::vector<std::string> refused;
  for (const bench::NamedProblem& named : problems) {
    if (on_terminal) fmt::print(stderr, "\r\033[K{} ...", named.name);
    Plan plan;
    try {
      plan = make_plan(named.problem, operation, {.backend = arguments.backend, .tiling = {}});
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      refused.push_back(fmt::format("{}: {}", named.name, error.what()));
      continue;
    }
    if (plan.kernel->tilings == nullptr) {
      refused.push_back(fmt::format("{}: {} has no choice of tiles", named.name, plan.kernel_name()));
      continue;
    }
    studies.push_back(study(named.name, plan, arguments, random));
    if (!arguments.record.empty()) save(arguments, studies);  // whatever comes after
  }
  if (on_terminal) fmt::print(stderr, "\r\033[K");
  if (studies.empty()) {
    throw Error(ErrorKind::unsupported, fmt::format("no problem has a choice of tiles; the first is {}", refused[0]));
  }
  fmt::print("{}\n{}", table_of(studies), histogram(studies));
  if (!refused.empty()) fmt::print("left out {} problems, the first is {}\n", refused.size(), refused[0]);
  return kSuccess;
}

}  // namespace

Command add_tilings(CLI::App& program) {
  CLI::App* command = program.add_subcommand("tilings", "Compare the planner's tiles with others, on a GPU");
  command->footer(
      "Example:\n"
      "  vicinal tilings --suite benchmarks/suites/headline.json --random-problems 100 --json tilings.json\n\n"
      "Each problem runs with the tiles that the planner chooses, with those that its model likes next and with "
      "random\n"
      "ones, one after the other. What then seems over 3% faster than the choice, four tilings at most, is measured\n"
      "again in turns with it, and the ratio of times is that of those medians. The histogram counts problems by the\n"
      "time of the choice over that of the fastest. The record holds all times beside what the model counts, so that\n"
      "its constants can be fitted: seconds, and seconds_in_turns of those measured again; ratio, and ratio_at_first\n"
      "by the first times alone.");
  const auto arguments = std::make_shared<TilingsArguments>();
  command->add_option("--suite", arguments->suite, "A JSON list of problems")->check(CLI::ExistingFile);
  command->add_option("--random-problems", arguments->random_problems, "As many random ones")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", arguments->seed, "Of random problems and tiles")->capture_default_str();
  command->add_option("--best", arguments->best, "Tilings that the model likes next")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--others", arguments->others, "Random tilings")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--operation", arguments->operation, "forward or backward")
      ->check(CLI::IsMember({"forward", "backward"}))
      ->capture_default_str();
  command->add_option("--backend", arguments->backend, "Kernels of this backend, or one kernel")->capture_default_str();
  command
      ->add_option_function<std::string>(
          "--dtype", [=](const std::string& text) { arguments->dtype = bench::parse_dtype(text); },
          "For all problems, whatever the suite says")
      ->type_name("TEXT");
  command
      ->add_option_function<std::string>(
          "--device", [=](const std::string& text) { arguments->device = bench::parse_device(text); },
          "cuda or cuda:N [cuda:0]")
      ->type_name("TEXT");
  command->add_option("--json", arguments->record, "Write a record of all times")->type_name("FILE");
  return {command, [=] { return run_tilings(*arguments); }};
}

}  // namespace vicinal::cli
