#include "options.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "cuda/devices.h"
#include "plan/forced_tiling.h"

namespace vicinal::cli {
namespace {

std::optional<PerAxis<std::int64_t>> tile(std::string_view argument,
                                          const std::optional<std::vector<std::int64_t>>& values, int rank) {
  if (!values) return std::nullopt;
  return bench::broadcast(argument, *values, rank);
}

}  // namespace

void ProblemOptions::add_axes(CLI::App& command, const std::string& name, std::vector<std::int64_t>& values,
                              const std::string& description) {
  command
      .add_option_function<std::string>(
          "--" + name, [&values, name](const std::string& text) { values = bench::parse_axes(name, text); },
          description)
      ->type_name("INT[xINT[xINT]]")
      ->group(kGroup);
}

void ProblemOptions::add_shape(CLI::App& command) {
  add_axes(command, "layout", spec.layout, "Extents of the token grid, one per axis");
  command.add_option("--batch", spec.batch, "Batch entries")->group(kGroup)->capture_default_str();
  command.add_option("--heads", spec.heads, "Query heads")->group(kGroup)->capture_default_str();
  command.add_option("--heads-kv", spec.heads_kv, "Key/value heads; as many as query heads when absent")->group(kGroup);
  command.add_option("--dim", spec.dim, "Head dim of query and key")->group(kGroup)->capture_default_str();
  command.add_option("--dim-v", spec.dim_v, "Head dim of value and output; that of the key when absent")->group(kGroup);
  command.add_option("--extra-kv", spec.extra_kv, "Additional key/value tokens that every query sees")
      ->group(kGroup)
      ->capture_default_str();
  command.add_option("--alignment", spec.alignment, "Bytes at multiples of which vectors begin, up to 16")
      ->group(kGroup)
      ->capture_default_str();
}

void ProblemOptions::add_neighborhood(CLI::App& command) {
  add_axes(command, "window", spec.window, "Tokens that a query sees along each axis; one value stands for all axes");
  add_axes(command, "stride", spec.stride, "Tokens that share one window, along each axis [1]");
  add_axes(command, "dilation", spec.dilation, "Distance between neighbors, along each axis [1]");
  add_axes(command, "causal", spec.causal, "1 where only tokens at or before the query are seen, such as 1,0,0 [0]");
  command.add_option("--scale", spec.scale, "Of the scores; dim^-0.5 when absent")->group(kGroup);
  command
      .add_option_function<std::string>(
          "--dtype", [this](const std::string& text) { spec.dtype = *(dtype = bench::parse_dtype(text)); },
          "fp64, fp32, fp16 or bf16")
      ->group(kGroup);
}

void ProblemOptions::add_device(CLI::App& command) {
  command
      .add_option_function<std::string>(
          "--device", [this](const std::string& text) { spec.device = *(device = bench::parse_device(text)); },
          "cpu, cuda or cuda:N [cpu]")
      ->group(kGroup);
}

void PlanningOptions::add(CLI::App& command) {
  const auto add_tile = [&](const std::string& name, std::optional<std::vector<std::int64_t>>& values,
                            const std::string& description) {
    command
        .add_option_function<std::string>(
            "--" + name, [&values, name](const std::string& text) { values = bench::parse_axes(name, text); },
            description)
        ->type_name("INT[xINT[xINT]]")
        ->group("Planning");
  };
  command.add_option("--backend", backend_, "Use this one, a name from `vicinal info`; the cheapest when absent")
      ->group("Planning");
  command.add_flag("--deterministic", deterministic_, "Only kernels that give the same bits in every run")
      ->group("Planning");
  add_tile("tile-query", query_tile_, "Force the box of queries of one softmax block");
  add_tile("tile-key", key_tile_, "Force the box of keys of one tile");
  add_tile("tile-block", block_, "Force the query tiles of one work item, along each axis");
  command.add_option("--tile-rows", rows_, "Force the query slots computed per query tile")->group("Planning");
  command.add_option("--tile-columns", columns_, "Force the key slots computed per key tile")->group("Planning");
}

PlanOptions PlanningOptions::resolve(const Problem& problem, Operation operation) const {
  const ForcedTiling forced{.query_tile = tile("tile-query", query_tile_, problem.rank),
                            .key_tile = tile("tile-key", key_tile_, problem.rank),
                            .block = tile("tile-block", block_, problem.rank),
                            .rows = rows_,
                            .columns = columns_};
  return with_forced_tiling(problem, operation, {backend_, std::nullopt, deterministic_}, forced);
}

void OperationOptions::add(CLI::App& command) {
  std::vector<std::string> names(kOperations.size());
  std::transform(kOperations.begin(), kOperations.end(), names.begin(), [](Operation o) { return name_of(o); });
  CLI::Option* forward = command.add_flag("--forward", forward_, "The forward pass only");
  CLI::Option* backward = command.add_flag("--backward", backward_, "The backward pass only");
  command.add_option("--operation", named_, "These only, such as pointwise_neighborhood (see `vicinal info`)")
      ->check(CLI::IsMember(names))
      ->excludes(forward)
      ->excludes(backward);
}

std::vector<Operation> OperationOptions::operations() const {
  std::vector<Operation> result;
  result.reserve(kOperations.size());
  for (const std::string& name : named_) {
    if (const auto operation = operation_named(name)) result.push_back(*operation);  // as the parser made sure
  }
  if (!result.empty()) return result;
  if (forward_ || !backward_) result.push_back(Operation::forward);
  if (backward_ || !forward_) result.push_back(Operation::backward);
  return result;
}

void require_device(const Device& device) {
  const std::size_t gpus = cuda::devices().size();
  if (device.type == DeviceType::cpu || static_cast<std::size_t>(device.index) < gpus) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("device = cuda:{}; this machine has {} CUDA devices{}", device.index, gpus,
                          cuda::built() ? "" : " that this build, which has no CUDA code, could use"));
}

void add_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "CPU threads; as many as OpenMP would use when absent")
      ->check(CLI::PositiveNumber);
}

}  // namespace vicinal::cli
