# How everything in this tree is compiled. Third-party code comes from imported targets, whose headers are system
# headers, so the warnings below are about our code only.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
endif()

if(NOT DEFINED CMAKE_COMPILE_WARNING_AS_ERROR)
  set(CMAKE_COMPILE_WARNING_AS_ERROR ${PROJECT_IS_TOP_LEVEL})
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Indices are signed 64-bit numbers everywhere and standard containers take unsigned ones, so -Wsign-conversion is off.
add_compile_options(
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion;-Wold-style-cast>"
  "$<$<COMPILE_LANGUAGE:CXX>:-Wcast-qual;-Wnon-virtual-dtor;-Woverloaded-virtual>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>")

if(VICINAL_SANITIZE)
  add_compile_options(-fsanitize=${VICINAL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${VICINAL_SANITIZE})
endif()

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(VICINAL_CCACHE ccache)
  if(VICINAL_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${VICINAL_CCACHE})
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${VICINAL_CCACHE})
  endif()
endif()
