#include "bench/machine.h"

#include <sys/utsname.h>

#include <chrono>
#include <cstdint>
#include <fstream>

#include <fmt/chrono.h>
#include <hwy/targets.h>

#include "commit.h"
#include "cuda/devices.h"

namespace vicinal::bench {

std::string gpu_name(const Device& device) { return cuda::devices().at(static_cast<std::size_t>(device.index)).name; }

std::string cpu_name() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  utsname system{};  // many Arm kernels list no name: the architecture is all there is
  return uname(&system) == 0 ? system.machine : "unknown";
}

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  return fmt::format("gcc {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

std::string_view commit() { return VICINAL_COMMIT; }

std::vector<std::string> compiled_cpu_targets() {
  std::vector<std::string> names;
  for (std::int64_t rest = HWY_TARGETS; rest != 0; rest &= rest - 1) names.emplace_back(hwy::TargetName(rest & -rest));
  return names;
}

std::string chosen_cpu_target() {
  const std::int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable & -usable);  // the lowest bit is the best target
}

std::string utc_now() { return fmt::format("{:%FT%TZ}", fmt::gmtime(std::chrono::system_clock::now())); }

}  // namespace vicinal::bench
