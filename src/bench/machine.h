#pragma once

// What a measurement was made on: half of what makes a record comparable with another.

#include <string>
#include <string_view>
#include <vector>

#include "vicinal/tensor.h"

namespace vicinal::bench {

/// The processor's name as the system gives it.
std::string cpu_name();

/// A CUDA device's name, as its driver gives it; the device must exist.
std::string gpu_name(const Device& device);

/// "gcc 12.2.0" or "clang 14.0.6": what compiled this library.
std::string compiler();

/// The commit that was built, with "-dirty" when the tree differed; "unknown" outside a git checkout.
std::string_view commit();

/// The SIMD targets compiled in, best first, that Highway can choose among.
std::vector<std::string> compiled_cpu_targets();

/// The one that this processor gets.
std::string chosen_cpu_target();

/// Now, as "2026-01-31T12:00:00Z".
std::string utc_now();

}  // namespace vicinal::bench
