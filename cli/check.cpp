// vicinal check: every kernel against the float64 oracle, on random problems or on one.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "check/case.h"
#include "check/check.h"
#include "commands.h"
#include "options.h"
#include "plan/registry.h"
#include "table.h"

namespace vicinal::cli {
namespace {

struct CheckArguments {
  check::Sweep sweep;
  std::int64_t cases = 200;
  std::optional<std::int64_t> only_case;
  std::string kernel;
  std::string backend;
  ProblemOptions problem;
};

/// What all cases so far gave for one kernel.
struct Tally {
  std::int64_t passed = 0;
  std::int64_t failed = 0;
  std::int64_t refused = 0;
  double worst = 0;
};

/// One line on stderr that is drawn again and again; nothing where stderr is no terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::int64_t total) : total_(total), on_terminal_(isatty(STDERR_FILENO) == 1) {}
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { clear(); }

  void draw(std::int64_t done) const {
    if (!on_terminal_) return;
    constexpr std::int64_t kWidth = 40;
    const std::int64_t filled = kWidth * done / total_;
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    const double left =
        done == 0 ? 0 : elapsed.count() / static_cast<double>(done) * static_cast<double>(total_ - done);
    fmt::print(stderr, "\r[{:#<{}}{:-<{}}] {}/{} cases, {:.0f} s left \033[K", "", filled, "", kWidth - filled, done,
               total_, left);
  }
  void clear() const {
    if (on_terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  std::int64_t total_;
  bool on_terminal_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::vector<const KernelRow*> chosen_kernels(const CheckArguments& arguments) {
  std::vector<const KernelRow*> kernels;
  for (const KernelRow& row : registry()) {
    const bool wanted = (arguments.kernel.empty() || row.name == arguments.kernel) &&
                        (arguments.backend.empty() || row.backend == arguments.backend) &&
                        row.device == arguments.problem.spec.device.type;
    if (wanted) kernels.push_back(&row);
  }
  if (kernels.empty()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("no kernel with name '{}', backend '{}' on {}; allowed: those of `vicinal info`",
                            arguments.kernel, arguments.backend, name_of(arguments.problem.spec.device.type)));
  }
  return kernels;
}

check::Case case_of(const CheckArguments& arguments, std::int64_t number) {
  check::Case result;
  if (arguments.problem.given_shape()) {
    result.problem = arguments.problem.spec.resolve();
    result.seed = arguments.sweep.seed;
    // All tensors begin at multiples of what the planner is told, and at no larger ones.
    const Problem& p = result.problem;
    const std::int64_t shift = p.alignment < kMostAlignment ? p.alignment / static_cast<int>(size_of(p.dtype)) : 0;
    result.arrange({.shift = shift});
  } else {
    result = check::random_case(arguments.sweep, number);
    result.problem.device = arguments.problem.spec.device;
  }
  return result;
}

std::string command_for(const CheckArguments& arguments, const check::Case& problem_case, std::int64_t number,
                        const KernelRow& kernel) {
  if (arguments.problem.given_shape()) {
    return fmt::format("vicinal check {} --seed {} --kernel {}", to_string(problem_case.problem), problem_case.seed,
                       kernel.name);
  }
  return check::reproducing_command(arguments.sweep, number, kernel.name);
}

ExitCode run_check(const CheckArguments& arguments) {
  require_device(arguments.problem.spec.device);
  const std::vector<const KernelRow*> kernels = chosen_kernels(arguments);
  const std::int64_t first = arguments.only_case.value_or(0);
  const std::int64_t count = arguments.problem.given_shape() || arguments.only_case ? 1 : arguments.cases;

  std::vector<Tally> tallies(kernels.size());
  const ProgressBar bar(count);
  for (std::int64_t done = 0; done < count; ++done) {
    bar.draw(done);
    const std::int64_t number = first + done;
    const check::Case current = case_of(arguments, number);
    for (std::size_t k = 0; k < kernels.size(); ++k) {
      const check::Report report = check::check_case(current, *kernels[k]);
      Tally& tally = tallies[k];
      tally.worst = std::max(tally.worst, report.worst);
      (!report.ran() ? tally.refused : report.passed() ? tally.passed : tally.failed) += 1;
      if (report.passed()) continue;
      bar.clear();
      fmt::print("FAILED {} on {}\n", kernels[k]->name, to_string(current.problem));
      for (const std::string& failure : report.failures) fmt::print("  {}\n", failure);
      fmt::print("  reproduce: {}\n", command_for(arguments, current, number, *kernels[k]));
    }
  }
  bar.clear();

  Table table({"kernel", "passed", "failed", "refused", "worst error / limit"});
  std::int64_t failed = 0;
  for (std::size_t k = 0; k < kernels.size(); ++k) {
    const Tally& tally = tallies[k];
    failed += tally.failed;
    table.add({std::string(kernels[k]->name), fmt::format("{}", tally.passed), fmt::format("{}", tally.failed),
               fmt::format("{}", tally.refused), fmt::format("{:.3f}", tally.worst)});
  }
  fmt::print("{}", table.text());
  return failed == 0 ? kSuccess : kCheckFailed;
}

}  // namespace

Command add_check(CLI::App& program) {
  CLI::App* command = program.add_subcommand("check", "Compare every kernel with the float64 oracle");
  command->footer(
      "Examples:\n"
      "  vicinal check --cases 1000 --seed 7 --backend fused\n"
      "  vicinal check --layout 64x64 --window 13 --dilation 2 --causal 1,0 --dtype bf16\n\n"
      "Without a problem, random ones are made. Whatever fails is printed with the command that runs it again.");
  const auto arguments = std::make_shared<CheckArguments>();
  command->add_option("--cases", arguments->cases, "Random problems to check")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", arguments->sweep.seed, "Of the problems and of their values")->capture_default_str();
  command->add_option("--case", arguments->only_case, "Check only this one of the sweep")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--size", arguments->sweep.size, "Scales the work of each random problem")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--kernel", arguments->kernel, "Only this kernel, a name from `vicinal info`");
  command->add_option("--backend", arguments->backend, "Only kernels of this backend");
  arguments->problem.add_shape(*command);
  arguments->problem.add_neighborhood(*command);
  arguments->problem.add_device(*command);
  CLI::Option* layout = command->get_option("--layout")->excludes("--case")->excludes("--cases");
  ProblemOptions::for_each_of_a_problem(*command, [=](CLI::Option* option) { option->needs(layout); });
  command->get_option("--dtype")->needs(layout);
  return {command, [arguments] { return run_check(*arguments); }};
}

}  // namespace vicinal::cli
