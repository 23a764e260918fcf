// vicinal: neighborhood attention from the command line.

#include <cstdio>
#include <exception>
#include <new>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "commands.h"
#include "vicinal/error.h"
#include "vicinal/version.h"

namespace vicinal::cli {
namespace {

// Errors are one line on stderr: those that list a reason a line have them joined.
ExitCode report(const char* message, ExitCode code) noexcept {
  std::fputs("vicinal: ", stderr);
  for (const char* c = message; *c != '\0'; ++c) {
    if (*c == '\n') {
      std::fputs("; ", stderr);
      while (c[1] == ' ') ++c;
    } else {
      std::fputc(*c, stderr);
    }
  }
  std::fputc('\n', stderr);
  return code;
}

int run(int argc, char** argv) {
  CLI::App program{"Neighborhood attention in one, two and three dimensions.", "vicinal"};
  program.set_version_flag("--version", fmt::format("vicinal {}", kVersion));
  program.footer(
      "Exit codes: 0 success, 1 a check failed, 2 bad arguments, 3 the machine failed.\n"
      "`vicinal COMMAND --help` explains a command, with an example.\n");
  const std::vector<Command> commands{add_info(program),  add_plan(program),  add_run(program),
                                      add_check(program), add_bench(program), add_tilings(program)};
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return program.exit(help_or_version);
  }
  for (const Command& command : commands) {
    if (command.arguments->parsed()) return command.run();
  }
  return report("no command; allowed: info, plan, run, check, bench, tilings", kBadArguments);
}

}  // namespace
}  // namespace vicinal::cli

int main(int argc, char** argv) {
  using namespace vicinal::cli;
  try {
    return run(argc, argv);
  } catch (const CLI::Error& error) {
    return report(error.what(), kBadArguments);
  } catch (const vicinal::Error& error) {
    return report(error.what(), error.kind() == vicinal::ErrorKind::system ? kMachineFailed : kBadArguments);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kMachineFailed);
  } catch (const std::exception& error) {
    return report(error.what(), kMachineFailed);
  }
}
