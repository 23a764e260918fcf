// vicinal run: attention on .npy files.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bench/measure.h"
#include "bench/problem_arrays.h"
#include "bench/record.h"
#include "commands.h"
#include "core/tensors.h"
#include "npy.h"
#include "options.h"
#include "table.h"
#include "vicinal/plan.h"

namespace vicinal::cli {
namespace {

using bench::ProblemArrays;

/// The files of the command line; a path is empty when the option was not given.
struct Files {
  std::string query, key, value, extra_key, extra_value, grad_output, grad_logsumexp;
  std::string output, logsumexp, grad_query, grad_key, grad_value, grad_extra_key, grad_extra_value;
};

struct RunArguments {
  Files files;
  ProblemOptions problem;
  PlanningOptions planning;
  int threads = 0;
};

// Rounded to `dtype` when --dtype asked for it; else as the file has it.
Array read_optional(const std::string& path, std::optional<DType> dtype) {
  if (path.empty()) return {};
  Array array = read_npy(path);
  const auto rank = static_cast<int>(array.shape.size());
  if (rank > kMaxTensorRank) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} has {} dimensions; allowed: at most {}", path, rank, kMaxTensorRank));
  }
  return dtype && *dtype != array.dtype ? array.as(*dtype) : std::move(array);
}

ProblemArrays read_inputs(const Files& files, std::optional<DType> dtype) {
  ProblemArrays arrays;
  arrays.query = read_optional(files.query, dtype);
  arrays.key = read_optional(files.key, dtype);
  arrays.value = read_optional(files.value, dtype);
  arrays.extra_key = read_optional(files.extra_key, dtype);
  arrays.extra_value = read_optional(files.extra_value, dtype);
  arrays.grad_output = read_optional(files.grad_output, dtype);
  arrays.grad_logsumexp = read_optional(files.grad_logsumexp, logsumexp_dtype(arrays.query.dtype));
  return arrays;
}

void require_rank(const std::string& name, const Array& array, std::size_t least, std::size_t most,
                  const std::string& shape) {
  const std::size_t rank = array.shape.size();
  if (rank < least || rank > most) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} has shape [{}]; allowed: {}", name, fmt::join(array.shape, ", "), shape));
  }
}

// The shapes of the files give layout, heads and dims. What they leave open is checked with every other tensor.
Problem problem_of(bench::ProblemSpec spec, const ProblemArrays& arrays) {
  require_rank("query", arrays.query, 4, 6, "[batch, *layout, heads, dim] with 1 to 3 axes");
  const std::size_t rank = arrays.query.shape.size();
  require_rank("key", arrays.key, rank, rank, "as many dimensions as query");
  require_rank("value", arrays.value, rank, rank, "as many dimensions as query");
  spec.batch = arrays.query.shape[0];
  spec.layout.assign(arrays.query.shape.begin() + 1, arrays.query.shape.end() - 2);
  spec.heads = arrays.query.shape[rank - 2];
  spec.dim = arrays.query.shape[rank - 1];
  spec.heads_kv = arrays.key.shape[rank - 2];
  spec.dim_v = arrays.value.shape[rank - 1];
  if (!arrays.extra_key.shape.empty()) {
    require_rank("extra_key", arrays.extra_key, 4, 4, "[batch, tokens, heads_kv, dim]");
    spec.extra_kv = arrays.extra_key.shape[1];
  }
  spec.dtype = arrays.query.dtype;
  return spec.resolve();
}

void run_and_report(const Plan& plan, ProblemArrays& arrays, int threads) {
  arrays.allocate_results(plan.problem, plan.operation);
  bench::Buffer workspace(plan.workspace_bytes);
  bench::WallClock clock;
  clock.start();
  bench::run(plan, arrays, workspace, threads);
  fmt::print("{:<8}  {}  {}\n", name_of(plan.operation), plan.kernel_name(), format_seconds(clock.stop()));
}

void write_outputs(const Files& files, const ProblemArrays& arrays) {
  const std::pair<const std::string&, const Array&> outputs[] = {
      {files.output, arrays.output},
      {files.logsumexp, arrays.logsumexp},
      {files.grad_query, arrays.grad_query},
      {files.grad_key, arrays.grad_key},
      {files.grad_value, arrays.grad_value},
      {files.grad_extra_key, arrays.grad_extra_key},
      {files.grad_extra_value, arrays.grad_extra_value},
  };
  for (const auto& [path, array] : outputs) {
    if (path.empty()) continue;
    write_npy(path, array.dtype == DType::bf16 ? array.as(DType::fp32) : array);  // NumPy has no bf16
    fmt::print("wrote     {}  [{}]\n", path, fmt::join(array.shape, ", "));
  }
}

ExitCode run_files(const RunArguments& arguments) {
  ProblemArrays arrays = read_inputs(arguments.files, arguments.problem.dtype);
  const Problem problem = problem_of(arguments.problem.spec, arrays);
  const auto plan_of = [&](Operation operation) {
    return make_plan(problem, operation, arguments.planning.resolve(problem, operation));
  };
  std::vector<Plan> plans{plan_of(Operation::forward)};
  if (!arguments.files.grad_output.empty()) plans.push_back(plan_of(Operation::backward));
  for (const Plan& plan : plans) run_and_report(plan, arrays, arguments.threads);
  write_outputs(arguments.files, arrays);
  return kSuccess;
}

}  // namespace

Command add_run(CLI::App& program) {
  CLI::App* command = program.add_subcommand("run", "Compute on .npy files");
  command->footer(
      "Example:\n"
      "  vicinal run --query q.npy --key k.npy --value v.npy --window 7x7 --output out.npy\n\n"
      "Files hold float64, float32 or float16: query [batch, *layout, heads, dim], key and value alike with their own\n"
      "heads and dims. Shapes give the layout. --dtype rounds what is read; bf16 results are written as float32.");
  const auto arguments = std::make_shared<RunArguments>();
  Files& files = arguments->files;
  const auto input = [&](const std::string& name, std::string& path, const std::string& shape) {
    return command->add_option("--" + name, path, shape)->check(CLI::ExistingFile)->type_name("NPY")->group("Inputs");
  };
  const auto output = [&](const std::string& name, std::string& path, const std::string& shape) {
    return command->add_option("--" + name, path, shape)->type_name("NPY")->group("Outputs");
  };
  input("query", files.query, "[batch, *layout, heads, dim]")->required();
  input("key", files.key, "[batch, *layout, heads_kv, dim]")->required();
  input("value", files.value, "[batch, *layout, heads_kv, dim_v]")->required();
  CLI::Option* extra_key = input("extra-key", files.extra_key, "[batch, extra_kv, heads_kv, dim]");
  CLI::Option* extra_value = input("extra-value", files.extra_value, "[batch, extra_kv, heads_kv, dim_v]");
  extra_key->needs(extra_value);
  extra_value->needs(extra_key);
  CLI::Option* grad_output = input("grad-output", files.grad_output, "[batch, *layout, heads, dim_v]");
  input("grad-logsumexp", files.grad_logsumexp, "[batch, *layout, heads]; zero when absent")->needs(grad_output);
  output("output", files.output, "[batch, *layout, heads, dim_v]")->required();
  output("logsumexp", files.logsumexp, "[batch, *layout, heads], natural log");
  output("grad-query", files.grad_query, "Shaped like query")->needs(grad_output);
  output("grad-key", files.grad_key, "Shaped like key")->needs(grad_output);
  output("grad-value", files.grad_value, "Shaped like value")->needs(grad_output);
  output("grad-extra-key", files.grad_extra_key, "Shaped like extra-key")->needs(grad_output)->needs(extra_key);
  output("grad-extra-value", files.grad_extra_value, "Shaped like extra-value")->needs(grad_output)->needs(extra_key);
  arguments->problem.add_neighborhood(*command);
  arguments->planning.add(*command);
  add_threads(*command, arguments->threads);
  return {command, [arguments] { return run_files(*arguments); }};
}

}  // namespace vicinal::cli
