#pragma once

// The options that subcommands share: the same words say the same thing in all of them.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/problem_spec.h"
#include "vicinal/plan.h"

namespace vicinal::cli {

/// How to write the options of a problem, for the --help texts.
inline constexpr const char* kProblemExample =
    "--layout 30x48x80 --window 18x24x24 --heads 24 --dim 128 --dtype bf16 --causal 1,0,0";

/// The options that say what a problem is. Keep it alive while the program's arguments are parsed.
class ProblemOptions {
 public:
  /// --layout --batch --heads --heads-kv --dim --dim-v --extra-kv --alignment: what tensors otherwise say.
  void add_shape(CLI::App& command);
  /// --window --stride --dilation --causal --scale --dtype
  void add_neighborhood(CLI::App& command);
  /// --device
  void add_device(CLI::App& command);

  /// Calls use(option) for every option that was added but --layout, --dtype and --device.
  template <class Use>
  static void for_each_of_a_problem(CLI::App& command, Use use) {
    for (CLI::Option* option : command.get_options()) {
      const std::string& name = option->get_single_name();
      if (option->get_group() == kGroup && name != "layout" && name != "dtype" && name != "device") use(option);
    }
  }

  /// Whether there is a problem at all, for commands that can do without.
  [[nodiscard]] bool given_shape() const { return !spec.layout.empty(); }

  bench::ProblemSpec spec;
  std::optional<DType> dtype;    ///< when --dtype was given; `spec.dtype` follows it
  std::optional<Device> device;  ///< when --device was given; `spec.device` follows it

 private:
  static constexpr const char* kGroup = "Problem";

  void add_axes(CLI::App& command, const std::string& name, std::vector<std::int64_t>& values,
                const std::string& description);
};

/// The options that take decisions away from the planner.
class PlanningOptions {
 public:
  /// --backend, --deterministic and the --tile options
  void add(CLI::App& command);

  /// Those for one problem. Tile options that were not given keep what the chosen kernel would use.
  [[nodiscard]] PlanOptions resolve(const Problem& problem, Operation operation) const;

 private:
  std::string backend_;
  bool deterministic_ = false;
  std::optional<std::vector<std::int64_t>> query_tile_;
  std::optional<std::vector<std::int64_t>> key_tile_;
  std::optional<std::vector<std::int64_t>> block_;
  std::optional<std::int64_t> rows_;
  std::optional<std::int64_t> columns_;
};

/// --forward, --backward and --operation; none of them means both passes of fused attention.
class OperationOptions {
 public:
  void add(CLI::App& command);
  [[nodiscard]] std::vector<Operation> operations() const;

 private:
  bool forward_ = false;
  bool backward_ = false;
  std::vector<std::string> named_;
};

/// Throws `Error` (invalid_argument) for a CUDA device that this machine does not have.
void require_device(const Device& device);

/// --threads
void add_threads(CLI::App& command, int& threads);

}  // namespace vicinal::cli
