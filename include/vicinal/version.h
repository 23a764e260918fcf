#pragma once

#include <string_view>

namespace vicinal {

/// Of these headers. The only place that states it: CMake and pyproject.toml read it from here.
inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace vicinal
