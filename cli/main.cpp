// vicinal: neighborhood attention from the command line.

#include <exception>
#include <new>
#include <regex>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "commands.h"
#include "vicinal/error.h"
#include "vicinal/version.h"

namespace vicinal::cli {
namespace {

// Errors are one line on stderr, also those that list a reason a line.
ExitCode report(const std::string& message, ExitCode code) {
  fmt::print(stderr, "vicinal: {}\n", std::regex_replace(message, std::regex("\\s*\n\\s*"), "; "));
  return code;
}

int main(int argc, char** argv) {
  CLI::App program{"Neighborhood attention in one, two and three dimensions.", "vicinal"};
  program.set_version_flag("--version", fmt::format("vicinal {}", kVersion));
  program.footer("Exit codes: 0 success, 1 a check failed, 2 bad arguments, 3 the machine failed.\n"
                 "`vicinal COMMAND --help` explains a command, with an example.\n");
  try {
    const std::vector<Command> commands{add_info(program), add_plan(program), add_run(program), add_check(program),
                                        add_bench(program)};
    program.parse(argc, argv);
    for (const Command& command : commands) {
      if (command.arguments->parsed()) return command.run();
    }
    return report("no command; allowed: info, plan, run, check, bench", kBadArguments);
  } catch (const CLI::Success& help_or_version) {
    return program.exit(help_or_version);
  } catch (const CLI::Error& error) {
    return report(error.what(), kBadArguments);
  } catch (const Error& error) {
    return report(error.what(), error.kind() == ErrorKind::system ? kMachineFailed : kBadArguments);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kMachineFailed);
  } catch (const std::exception& error) {
    return report(error.what(), kMachineFailed);
  }
}

}  // namespace
}  // namespace vicinal::cli

int main(int argc, char** argv) { return vicinal::cli::main(argc, argv); }
