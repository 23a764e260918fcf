// vicinal plan: what would run, and why.

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/record.h"
#include "bench/suite.h"
#include "commands.h"
#include "cuda/devices.h"
#include "options.h"
#include "plan/registry.h"
#include "vicinal/plan.h"

namespace vicinal::cli {
namespace {

struct PlanArguments {
  ProblemOptions problem;
  PlanningOptions planning;
  OperationOptions operations;
  bool json = false;
};

/// A plan, and how long it took to make: of the first of a process, with all that it meets for the first time.
struct TimedPlan {
  Plan plan;
  double seconds;
};

TimedPlan timed_plan(const Problem& problem, Operation operation, const PlanOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Plan plan = make_plan(problem, operation, options);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return {std::move(plan), taken.count()};
}

nlohmann::ordered_json plan_json(const TimedPlan& timed) {
  const Plan& plan = timed.plan;
  nlohmann::ordered_json refusals = nlohmann::json::array();
  for (const Refusal& refusal : plan.refusals) {
    refusals.push_back({{"kernel", refusal.kernel}, {"reason", refusal.reason}});
  }
  nlohmann::ordered_json json{{"operation", name_of(plan.operation)},
                              {"problem", bench::problem_json(plan.problem)},
                              {"command", to_string(plan.problem)},
                              {"kernel", plan.kernel_name()},
                              {"tiling",
                               {{"query_tile", plan.tiling.query_tile},
                                {"key_tile", plan.tiling.key_tile},
                                {"block", plan.tiling.block},
                                {"rows", plan.tiling.rows},
                                {"columns", plan.tiling.columns}}},
                              {"cost",
                               {{"needed_multiply_adds", plan.cost.needed_multiply_adds},
                                {"visited_multiply_adds", plan.cost.visited_multiply_adds},
                                {"bytes", plan.cost.bytes},
                                {"seconds", plan.cost.seconds}}},
                              {"workspace_bytes", plan.workspace_bytes}};
  if (plan.kernel->order != nullptr) json["order"] = plan.kernel->order(padded_to_rank_3(plan.problem), plan.tiling);
  if (plan.kernel->copies != nullptr) json["copies"] = plan.kernel->copies(padded_to_rank_3(plan.problem), plan.tiling);
  json["planning_seconds"] = timed.seconds;
  json["refusals"] = refusals;
  return json;
}

ExitCode run_plan(const PlanArguments& arguments) {
  const Problem problem = arguments.problem.spec.resolve();
  // Whoever has tensors on a GPU has started its driver, which takes a thousand times as long as a plan.
  if (problem.device.type == DeviceType::cuda) cuda::compute_capability_major(problem.device.index);
  std::vector<TimedPlan> plans;
  for (const Operation operation : arguments.operations.operations()) {
    plans.push_back(timed_plan(problem, operation, arguments.planning.resolve(problem, operation)));
  }
  if (arguments.json) {
    nlohmann::ordered_json list = nlohmann::json::array();
    for (const TimedPlan& plan : plans) list.push_back(plan_json(plan));
    fmt::print("{}\n", list.dump(2));
    return kSuccess;
  }
  for (std::size_t i = 0; i < plans.size(); ++i) fmt::print("{}{}", i == 0 ? "" : "\n", plans[i].plan.explain());
  return kSuccess;
}

}  // namespace

Command add_plan(CLI::App& program) {
  CLI::App* command = program.add_subcommand("plan", "Explain which kernel and which tiles a problem would get");
  command->footer(fmt::format("Example:\n  vicinal plan {}", kProblemExample));
  const auto arguments = std::make_shared<PlanArguments>();
  arguments->problem.add_shape(*command);
  arguments->problem.add_neighborhood(*command);
  arguments->problem.add_device(*command);
  arguments->planning.add(*command);
  arguments->operations.add(*command);
  command->add_flag("--json", arguments->json,
                    "Print a JSON list, one entry per operation, with the time that planning took");
  return {command, [arguments] { return run_plan(*arguments); }};
}

}  // namespace vicinal::cli
