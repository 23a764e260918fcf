// vicinal info: what this build is, what the machine has, which kernels there are.

#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/machine.h"
#include "bench/record.h"
#include "commands.h"
#include "cpu/parallel.h"
#include "cuda/devices.h"
#include "plan/registry.h"
#include "table.h"
#include "vicinal/version.h"

namespace vicinal::cli {
namespace {

std::string describe_gpu(const cuda::DeviceInfo& gpu) {
  return fmt::format("{}, compute capability {}.{}, {} multiprocessors, {:.0f} GiB", gpu.name, gpu.compute_major,
                     gpu.compute_minor, gpu.multiprocessors, static_cast<double>(gpu.memory_bytes) / (1 << 30));
}

void print_text() {
  std::vector<std::string> gpus;
  for (const cuda::DeviceInfo& gpu : cuda::devices()) gpus.push_back(describe_gpu(gpu));
  if (gpus.empty()) gpus.emplace_back(cuda::built() ? "none found" : "none (built without CUDA)");

  fmt::print("vicinal      {}, commit {}\n", kVersion, bench::commit());
  fmt::print("compiler     {}\n", bench::compiler());
  fmt::print("processor    {}\n", bench::cpu_name());
  fmt::print("SIMD         {} of {}\n", bench::chosen_cpu_target(), fmt::join(bench::compiled_cpu_targets(), ", "));
  fmt::print("threads      {}\n", cpu::thread_count(0));
  for (std::size_t i = 0; i < gpus.size(); ++i)
    fmt::print("{}{}\n", i == 0 ? "GPUs         " : "             ", gpus[i]);

  Table table({"kernel", "backend", "operation", "device"});
  for (const KernelRow& row : registry()) {
    table.add({std::string(row.name), std::string(row.backend), std::string(name_of(row.operation)),
               std::string(name_of(row.device))});
  }
  fmt::print("\n{}", table.text());
}

void print_json() {
  nlohmann::ordered_json gpus = nlohmann::json::array();
  for (const cuda::DeviceInfo& gpu : cuda::devices()) {
    gpus.push_back({{"name", gpu.name},
                    {"compute_capability", fmt::format("{}.{}", gpu.compute_major, gpu.compute_minor)},
                    {"multiprocessors", gpu.multiprocessors},
                    {"memory_bytes", gpu.memory_bytes}});
  }
  nlohmann::ordered_json kernels = nlohmann::json::array();
  for (const KernelRow& row : registry()) {
    kernels.push_back({{"name", row.name},
                       {"backend", row.backend},
                       {"operation", name_of(row.operation)},
                       {"device", name_of(row.device)}});
  }
  const nlohmann::ordered_json info{{"version", kVersion},
                                    {"commit", bench::commit()},
                                    {"compiler", bench::compiler()},
                                    {"cpu", bench::cpu_name()},
                                    {"cpu_target", bench::chosen_cpu_target()},
                                    {"cpu_targets", bench::compiled_cpu_targets()},
                                    {"threads", cpu::thread_count(0)},
                                    {"cuda", cuda::built()},
                                    {"gpus", gpus},
                                    {"kernels", kernels}};
  fmt::print("{}\n", info.dump(2));
}

}  // namespace

Command add_info(CLI::App& program) {
  CLI::App* command = program.add_subcommand("info", "Show the build, the machine and the kernels");
  command->footer("Example:\n  vicinal info --json");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print JSON");
  return {command, [json] {
            *json ? print_json() : print_text();
            return kSuccess;
          }};
}

}  // namespace vicinal::cli
