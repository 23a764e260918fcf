#include "vicinal/plan.h"

#include <algorithm>
#include <initializer_list>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/tiling.h"
#include "plan/plan_cache.h"
#include "plan/registry.h"

namespace vicinal {
namespace {

std::string shape(const PerAxis<std::int64_t>& extents) { return fmt::format("{}", fmt::join(extents, "x")); }

/// A number with three significant digits and the unit that keeps it short.
std::string with_unit(double value, double base, std::initializer_list<std::string_view> units) {
  const auto* unit = units.begin();
  for (; value >= 999.5 && unit + 1 != units.end(); ++unit) value /= base;
  return fmt::format("{:.3g}{}", value, *unit);
}

std::string count(double value) {
  return with_unit(value, 1000, {"", " thousand", " million", " billion", " trillion"});
}
std::string bytes(double value) { return with_unit(value, 1024, {" B", " KiB", " MiB", " GiB", " TiB"}); }
std::string seconds(double value) { return with_unit(value * 1e6, 1000, {" us", " ms", " s"}); }

bool answers_to(const KernelRow& row, std::string_view backend) {
  return backend.empty() || row.backend == backend || row.name == backend;
}

[[noreturn]] void throw_unknown_backend(std::string_view backend, Operation operation) {
  std::vector<std::string_view> known;
  for (const KernelRow& row : registry()) {
    if (std::find(known.begin(), known.end(), row.backend) == known.end()) known.push_back(row.backend);
  }
  throw Error(ErrorKind::invalid_argument, fmt::format("backend = \"{}\" names no kernel for {}; allowed: {}", backend,
                                                       name_of(operation), fmt::join(known, ", ")));
}

bool volume_fits(const PerAxis<std::int64_t>& tile, std::int64_t limit) {
  std::int64_t volume = 1;
  for (const std::int64_t extent : tile) {
    if (extent < 1 || extent > limit / volume) return false;
    volume *= extent;
  }
  return true;
}

Status check_tiling(const Tiling& tiling) {
  const auto refuse = [](std::string_view name, const PerAxis<std::int64_t>& tile, std::string_view limit_name,
                         std::int64_t limit) {
    return Status::refuse(
        fmt::format("tiling.{} = {} with tiling.{} = {}; allowed: extents of at least 1 whose product "
                    "is at most {}",
                    name, shape(tile), limit_name, limit, limit_name));
  };
  if (!volume_fits(tiling.query_tile, tiling.rows)) return refuse("query_tile", tiling.query_tile, "rows", tiling.rows);
  if (!volume_fits(tiling.key_tile, tiling.columns)) {
    return refuse("key_tile", tiling.key_tile, "columns", tiling.columns);
  }
  if (!volume_fits(tiling.block, std::numeric_limits<std::int64_t>::max())) {
    return Status::refuse(fmt::format("tiling.block = {}; allowed: extents of at least 1", shape(tiling.block)));
  }
  return {};
}

/// A kernel that can do the problem, with the tiles it would use.
struct Candidate {
  const KernelRow* row;
  Choice choice;
};

Choice choice_of(PlanCache& cache, const KernelRow& row, const Problem& grid, const PlanOptions& options) {
  if (options.tiling) return {*options.tiling, row.cost(grid, *options.tiling)};
  return cache.choice(row, grid);
}

[[noreturn]] void throw_unsupported(const Problem& problem, Operation operation, const std::vector<Refusal>& refusals) {
  std::string reasons;
  for (const Refusal& refusal : refusals) reasons += fmt::format("\n  {}: {}", refusal.kernel, refusal.reason);
  throw Error(ErrorKind::unsupported,
              fmt::format("no kernel can do the {} pass of {}{}", name_of(operation), to_string(problem), reasons));
}

}  // namespace

std::string_view name_of(Operation operation) noexcept {
  switch (operation) {
    case Operation::forward: return "forward";
    case Operation::backward: return "backward";
    case Operation::pointwise_neighborhood: return "pointwise_neighborhood";
    case Operation::neighborhood_neighborhood: return "neighborhood_neighborhood";
    case Operation::inverse_neighborhood: return "inverse_neighborhood";
    case Operation::bias_gradient: return "bias_gradient";
  }
  return "unknown";
}

std::optional<Operation> operation_named(std::string_view name) noexcept {
  for (const Operation operation : kOperations) {
    if (name_of(operation) == name) return operation;
  }
  return std::nullopt;
}

Status usable(const KernelRow& row, const Problem& grid, const PlanOptions& options) {
  if (!answers_to(row, options.backend)) {
    return Status::refuse(fmt::format("backend \"{}\" was asked for", options.backend));
  }
  if (row.device != grid.device.type) {
    return Status::refuse(
        fmt::format("runs on {}, the problem is on {}", name_of(row.device), name_of(grid.device.type)));
  }
  if (options.deterministic && !row.deterministic) {
    return Status::refuse("adds up in an order that changes from run to run; deterministic results were asked for");
  }
  if (Status s = row.supports(grid); !s.ok()) return s;
  return options.tiling ? row.accepts(grid, *options.tiling) : Status{};
}

Plan make_plan(const Problem& problem, Operation operation, const PlanOptions& options) {
  constexpr std::size_t kMostChoices = 1024;
  static PlanCache cache(kMostChoices);
  return make_plan(cache, problem, operation, options);
}

Plan make_plan(PlanCache& cache, const Problem& problem, Operation operation, const PlanOptions& options) {
  if (const Status s = validate(problem, operation); !s.ok()) throw Error(ErrorKind::invalid_argument, s.reason());
  if (options.tiling) {
    if (const Status s = check_tiling(*options.tiling); !s.ok()) throw Error(ErrorKind::invalid_argument, s.reason());
  }
  const Problem grid = padded_to_rank_3(problem);

  Plan plan;
  plan.problem = problem;
  plan.operation = operation;
  std::vector<Candidate> candidates;
  bool known = false;
  for (const KernelRow& row : registry()) {
    if (row.operation != operation) continue;
    known = known || answers_to(row, options.backend);
    if (const Status s = usable(row, grid, options); !s.ok()) {
      plan.refusals.push_back({std::string(row.name), s.reason()});
      continue;
    }
    candidates.push_back({&row, choice_of(cache, row, grid, options)});
  }
  if (!known) throw_unknown_backend(options.backend, operation);
  if (candidates.empty()) throw_unsupported(problem, operation, plan.refusals);

  // The first of the cheapest: the registry is in order of preference.
  const auto best = std::min_element(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.choice.cost.seconds < b.choice.cost.seconds;
  });
  for (const Candidate& other : candidates) {
    if (&other == &*best) continue;
    plan.refusals.push_back(
        {std::string(other.row->name), fmt::format("estimated at {}, {} at {}", seconds(other.choice.cost.seconds),
                                                   best->row->name, seconds(best->choice.cost.seconds))});
  }
  plan.kernel = best->row;
  plan.tiling = best->choice.tiling;
  plan.cost = best->choice.cost;
  plan.workspace_bytes = best->row->workspace(grid, plan.tiling);
  return plan;
}

std::string_view Plan::kernel_name() const { return kernel == nullptr ? std::string_view{} : kernel->name; }

std::string Plan::explain() const {
  if (kernel == nullptr) return "no plan";
  std::string text = fmt::format("{} pass of {}\n", name_of(operation), to_string(problem));
  text += fmt::format("  kernel     {} (backend {})\n", kernel->name, kernel->backend);
  text +=
      fmt::format("  tiles      {} queries in {} rows x {} keys in {} columns, {} query tiles per work item\n",
                  shape(tiling.query_tile), tiling.rows, shape(tiling.key_tile), tiling.columns, shape(tiling.block));
  text += fmt::format("  work       {} multiply-adds visited, {} needed: {:.2f} times\n",
                      count(cost.visited_multiply_adds), count(cost.needed_multiply_adds),
                      cost.visited_multiply_adds / std::max(cost.needed_multiply_adds, 1.0));
  if (cost.work_items > 0) {
    text += fmt::format("  items      {} work items, {:.0f}% of their tiles masked\n", count(cost.work_items),
                        100 * cost.masked_multiply_adds / std::max(cost.visited_multiply_adds, 1.0));
  }
  if (kernel->order != nullptr) {
    text += fmt::format("  order      {}\n", kernel->order(padded_to_rank_3(problem), tiling));
  }
  text += fmt::format("  memory     {} moved, {} of workspace\n", bytes(cost.bytes),
                      bytes(static_cast<double>(workspace_bytes)));
  if (kernel->copies != nullptr) {
    text += fmt::format("  copies     {}\n", kernel->copies(padded_to_rank_3(problem), tiling));
  }
  text += fmt::format("  estimate   {}\n", seconds(cost.seconds));
  for (const Refusal& refusal : refusals) text += fmt::format("  not used   {}: {}\n", refusal.kernel, refusal.reason);
  return text;
}

}  // namespace vicinal
