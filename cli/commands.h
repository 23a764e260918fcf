#pragma once

// The subcommands, each in the file of its name.

#include <functional>

#include <CLI/CLI.hpp>

namespace vicinal::cli {

enum ExitCode : int {
  kSuccess = 0,
  kCheckFailed = 1,
  kBadArguments = 2,   ///< also a problem that no kernel can do
  kMachineFailed = 3,  ///< out of memory, a file that cannot be read or written, a device error
};

/// A subcommand that was added to the program; `run` is called after its arguments were parsed.
struct Command {
  CLI::App* arguments;
  std::function<ExitCode()> run;
};

Command add_info(CLI::App& program);
Command add_plan(CLI::App& program);
Command add_run(CLI::App& program);
Command add_check(CLI::App& program);
Command add_bench(CLI::App& program);
Command add_tilings(CLI::App& program);

}  // namespace vicinal::cli
