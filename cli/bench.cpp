// vicinal bench: how fast, and how near to what the machine can do.

#include <unistd.h>

#include <algorithm>
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
#include "commands.h"
#include "cpu/parallel.h"
#include "cuda/devices.h"
#include "options.h"
#include "table.h"

namespace vicinal::cli {
namespace {

struct BenchArguments {
  ProblemOptions problem;
  PlanningOptions planning;
  OperationOptions operations;
  std::string suite;
  std::vector<std::string> only;
  std::string record;
  bench::MeasureOptions measure;
  int rounds = 1;
  int threads = 0;
  bool cold = false;
};

struct CompareArguments {
  std::string older;
  std::string newer;
};

bool is_chosen(const std::string& name, const std::vector<std::string>& only) {
  const auto is_part = [&](const std::string& part) { return name.find(part) != std::string::npos; };
  return only.empty() || std::ranges::any_of(only, is_part);
}

std::vector<bench::NamedProblem> problems_of(const BenchArguments& arguments) {
  const bench::ProblemSpec& spec = arguments.problem.spec;
  if (arguments.suite.empty()) {
    const Problem problem = spec.resolve();
    const auto axes = [&](const PerAxis<std::int64_t>& values) { return bench::join_axes(values, problem.rank); };
    return {{fmt::format("{} w{}", axes(problem.layout), axes(problem.window)), problem}};
  }
  std::vector<bench::NamedProblem> chosen;
  for (bench::NamedProblem& named : bench::load_suite(arguments.suite)) {
    if (!is_chosen(named.name, arguments.only)) continue;
    if (arguments.problem.dtype) named.problem.dtype = *arguments.problem.dtype;
    if (arguments.problem.device) named.problem.device = *arguments.problem.device;
    chosen.push_back(std::move(named));
  }
  if (chosen.empty()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("--only '{}' matches no problem of {}", fmt::join(arguments.only, ", "), arguments.suite));
  }
  return chosen;
}

std::unique_ptr<bench::Clock> clock_for(const Device& device) {
  if (device.type == DeviceType::cpu) return std::make_unique<bench::WallClock>();
  return std::make_unique<bench::DeviceClock>(device.index);
}

/// The device of all problems, which share a roofline.
Device device_of(const std::vector<bench::NamedProblem>& problems) {
  const Device device = problems.front().problem.device;
  for (const bench::NamedProblem& named : problems) {
    if (named.problem.device == device) continue;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} and {} are on different devices; allowed: one device, as --device chooses for all",
                            problems.front().name, named.name));
  }
  require_device(device);
  return device;
}

/// A row of the table, and the seconds of all of its repetitions so far.
struct Row {
  bench::Result result;
  std::vector<double> seconds;
};

/// Measures a row for another round.
void measure(const BenchArguments& arguments, Row& row) {
  const Plan& plan = row.result.plan;
  const Device& device = plan.problem.device;
  const std::size_t cache = device.type == DeviceType::cpu
                                ? bench::last_level_cache_bytes()
                                : cuda::devices().at(static_cast<std::size_t>(device.index)).cache_bytes;
  bench::Workload workload(plan, arguments.cold ? bench::Workload::cold_copies(plan, cache) : 1, arguments.threads);
  const std::unique_ptr<bench::Clock> clock = clock_for(device);
  const std::vector<double> seconds =
      bench::measure_repetitions([&](std::int64_t repetition) { workload.run(repetition); }, arguments.measure, *clock);
  row.seconds.insert(row.seconds.end(), seconds.begin(), seconds.end());
  row.result.timing = bench::timing_of(row.seconds);
}

/// Of the rows that have been measured.
std::vector<bench::Result> results_of(const std::vector<Row>& rows) {
  std::vector<bench::Result> results;
  for (const Row& row : rows) {
    if (!row.seconds.empty()) results.push_back(row.result);
  }
  return results;
}

std::string table_of(const std::vector<bench::Result>& results) {
  Table table(
      {"problem", "operation", "kernel", "median", "TFLOP/s", "GB/s", "roofline", "visited/needed", "spread", "runs"});
  for (const bench::Result& result : results) {
    const Cost& cost = result.plan.cost;
    table.add({result.name, std::string(name_of(result.plan.operation)), std::string(result.plan.kernel_name()),
               format_seconds(result.timing.median), format_significant(result.teraflops()),
               format_significant(result.gigabytes_per_second()),
               fmt::format("{:.1f}%", 100 * result.fraction_of_roofline()),
               format_significant(cost.visited_multiply_adds / cost.needed_multiply_adds),
               fmt::format("{:.0f}%", 100 * result.timing.spread), fmt::format("{}", result.timing.repetitions)});
  }
  return table.text();
}

ExitCode run_bench(const BenchArguments& arguments) {
  const std::vector<bench::NamedProblem> problems = problems_of(arguments);
  if (!arguments.record.empty()) bench::require_writable(arguments.record);
  const int threads = cpu::thread_count(arguments.threads);
  const Device device = device_of(problems);
  const bool on_cpu = device.type == DeviceType::cpu;
  const bench::Roofline roofline =
      on_cpu ? bench::measure_cpu_roofline(threads) : bench::measure_cuda_roofline(device.index);
  fmt::print("{}; roofline: {} GB/s copied, {} TFLOP/s in fp16, {} in fp32, {} in fp64\n",
             on_cpu ? fmt::format("{} threads", threads) : bench::gpu_name(device),
             format_significant(1e-9 * roofline.bytes_per_second),
             format_significant(2e-12 * roofline.multiply_adds_per_second_16),
             format_significant(2e-12 * roofline.multiply_adds_per_second_32),
             format_significant(2e-12 * roofline.multiply_adds_per_second_64));
  const bool on_terminal = isatty(STDERR_FILENO) == 1;
  std::vector<Row> rows;
  for (const bench::NamedProblem& named : problems) {
    for (const Operation operation : arguments.operations.operations()) {
      const Plan plan = make_plan(named.problem, operation, arguments.planning.resolve(named.problem, operation));
      rows.push_back({{named.name, plan, {}, roofline.floor_seconds(plan.cost, named.problem.dtype)}, {}});
    }
  }
  for (int round = 0; round < arguments.rounds; ++round) {
    for (Row& row : rows) {
      const bench::Result& result = row.result;
      if (on_terminal) fmt::print(stderr, "\r\033[K{} {} ...", result.name, name_of(result.plan.operation));
      measure(arguments, row);
      if (!arguments.record.empty()) {  // whatever comes after
        bench::save_json(arguments.record,
                         bench::make_record(device, roofline, threads, arguments.cold, results_of(rows)));
      }
    }
  }
  if (on_terminal) fmt::print(stderr, "\r\033[K");
  fmt::print("{}", table_of(results_of(rows)));
  return kSuccess;
}

ExitCode run_compare(const CompareArguments& arguments) {
  const auto shared = bench::compare_records(bench::load_json(arguments.older), bench::load_json(arguments.newer));
  if (shared.empty()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} and {} share no result", arguments.older, arguments.newer));
  }
  Table table({"problem", "operation", "old", "new", "speed-up"});
  for (const bench::Comparison& pair : shared) {
    table.add({pair.name, pair.operation, format_seconds(pair.old_seconds), format_seconds(pair.new_seconds),
               fmt::format("{:.2f}", pair.old_seconds / pair.new_seconds)});
  }
  fmt::print("{}", table.text());
  return kSuccess;
}

}  // namespace

Command add_bench(CLI::App& program) {
  CLI::App* command = program.add_subcommand("bench", "Measure a problem, or a suite of them");
  command->footer(
      "Examples:\n"
      "  vicinal bench --layout 64x64 --window 13 --heads 8 --dim 64\n"
      "  vicinal bench --suite benchmarks/suites/cpu.json --only 64 --forward --json new.json\n"
      "  vicinal bench compare old.json new.json\n\n"
      "TFLOP/s count two operations for each multiply-add that the problem needs, whatever the kernel visits. The\n"
      "roofline is the larger of those at the machine's measured peak rate and of the bytes (each tensor once) at its\n"
      "measured copy bandwidth; the table gives how much of the time it accounts for.");
  const auto arguments = std::make_shared<BenchArguments>();
  arguments->problem.add_shape(*command);
  arguments->problem.add_neighborhood(*command);
  arguments->problem.add_device(*command);
  arguments->planning.add(*command);
  arguments->operations.add(*command);
  CLI::Option* suite = command->add_option("--suite", arguments->suite, "A JSON list of problems")
                           ->check(CLI::ExistingFile)
                           ->group("Suite");
  ProblemOptions::for_each_of_a_problem(*command, [=](CLI::Option* option) { suite->excludes(option); });
  suite->excludes(command->get_option("--layout"));
  command->add_option("--only", arguments->only, "Those whose name contains this, or one of these")
      ->needs(suite)
      ->group("Suite");
  command->add_option("--json", arguments->record, "Write a record of the results")->type_name("FILE");
  command->add_option("--seconds", arguments->measure.budget_seconds, "Time to spend on each row")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--repetitions", arguments->measure.min_repetitions, "Repeat at least this often")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--rounds", arguments->rounds,
                   "Go through all rows so many times; a row's time is the median of all of its repetitions, so that "
                   "a machine that slows down does so for all rows")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--cold", arguments->cold, "Rotate the tensors so that none is found in a cache");
  add_threads(*command, arguments->threads);

  const auto compared = std::make_shared<CompareArguments>();
  CLI::App* compare = command->add_subcommand("compare", "Compare two records of `vicinal bench --json`");
  compare->footer("Example:\n  vicinal bench compare old.json new.json");
  compare->add_option("old", compared->older, "A record")->required()->check(CLI::ExistingFile);
  compare->add_option("new", compared->newer, "Another record")->required()->check(CLI::ExistingFile);

  return {command, [=] { return compare->parsed() ? run_compare(*compared) : run_bench(*arguments); }};
}

}  // namespace vicinal::cli
