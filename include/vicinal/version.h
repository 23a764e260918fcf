#pragma once

#include <string_view>

// The only place that states the version: CMake and pyproject.toml read it from here.
#define VICINAL_VERSION_MAJOR 0
#define VICINAL_VERSION_MINOR 1
#define VICINAL_VERSION_PATCH 0
#define VICINAL_VERSION_STRING "0.1.0"

namespace vicinal {

/// Of the headers that a program was compiled with.
inline constexpr std::string_view kVersion = VICINAL_VERSION_STRING;

}  // namespace vicinal
