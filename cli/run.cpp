// vicinal run: attention on .npy files.

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bench/record.h"
#include "bench/workload.h"
#include "commands.h"
#include "core/tensors.h"
#include "npy.h"
#include "options.h"
#include "table.h"
#include "vicinal/attention.h"

namespace vicinal::cli {
namespace {

/// One file of the command line; empty when the option was not given.
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

struct Arrays {
  Array query, key, value, extra_key, extra_value, grad_output, grad_logsumexp;
  Array output, logsumexp, grad_query, grad_key, grad_value, grad_extra_key, grad_extra_value;
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

Arrays read_inputs(const Files& files, std::optional<DType> dtype) {
  Arrays arrays;
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
Problem problem_of(bench::ProblemSpec spec, const Arrays& arrays) {
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

template <class Tensors>
void run_and_report(const Plan& plan, const Tensors& tensors, int threads) {
  bench::Buffer workspace(plan.workspace_bytes);
  Execution execution;
  execution.workspace = workspace.data();
  execution.workspace_bytes = workspace.size();
  execution.threads = threads;
  const auto start = std::chrono::steady_clock::now();
  run(plan, tensors, execution);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  fmt::print("{:<8}  {}  {}\n", bench::name_of(plan.operation), plan.kernel_name(), format_seconds(elapsed.count()));
}

void run_forward(const Plan& plan, Arrays& arrays, int threads) {
  const bench::Shapes shapes(plan.problem);
  arrays.output = Array(shapes.output, plan.problem.dtype);
  arrays.logsumexp = Array(shapes.logsumexp, logsumexp_dtype(plan.problem.dtype));
  const ForwardTensors tensors{arrays.query.tensor(),     arrays.key.tensor(),         arrays.value.tensor(),
                               arrays.extra_key.tensor(), arrays.extra_value.tensor(), arrays.output.tensor(),
                               arrays.logsumexp.tensor()};
  run_and_report(plan, tensors, threads);
}

void run_backward(const Plan& plan, Arrays& arrays, int threads) {
  const bench::Shapes shapes(plan.problem);
  const DType dtype = plan.problem.dtype;
  arrays.grad_query = Array(shapes.query, dtype);
  arrays.grad_key = Array(shapes.key, dtype);
  arrays.grad_value = Array(shapes.value, dtype);
  if (plan.problem.extra_kv > 0) {
    arrays.grad_extra_key = Array(shapes.extra_key, dtype);
    arrays.grad_extra_value = Array(shapes.extra_value, dtype);
  }
  BackwardTensors tensors;
  tensors.query = arrays.query.tensor();
  tensors.key = arrays.key.tensor();
  tensors.value = arrays.value.tensor();
  tensors.extra_key = arrays.extra_key.tensor();
  tensors.extra_value = arrays.extra_value.tensor();
  tensors.output = arrays.output.tensor();
  tensors.logsumexp = arrays.logsumexp.tensor();
  tensors.grad_output = arrays.grad_output.tensor();
  tensors.grad_logsumexp = arrays.grad_logsumexp.tensor();
  tensors.grad_query = arrays.grad_query.tensor();
  tensors.grad_key = arrays.grad_key.tensor();
  tensors.grad_value = arrays.grad_value.tensor();
  tensors.grad_extra_key = arrays.grad_extra_key.tensor();
  tensors.grad_extra_value = arrays.grad_extra_value.tensor();
  run_and_report(plan, tensors, threads);
}

void write_outputs(const Files& files, const Arrays& arrays) {
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
  Arrays arrays = read_inputs(arguments.files, arguments.problem.dtype);
  const Problem problem = problem_of(arguments.problem.spec, arrays);
  const auto plan_of = [&](Operation operation) {
    return make_plan(problem, operation, arguments.planning.resolve(problem, operation));
  };
  const Plan forward = plan_of(Operation::forward);
  if (arguments.files.grad_output.empty()) {
    run_forward(forward, arrays, arguments.threads);
  } else {
    const Plan backward = plan_of(Operation::backward);
    run_forward(forward, arrays, arguments.threads);
    run_backward(backward, arrays, arguments.threads);
  }
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
