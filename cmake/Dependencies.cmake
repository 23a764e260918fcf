# Third-party packages, all found on the system: Debian's libhwy-dev, libfmt-dev, libcli11-dev, nlohmann-json3-dev and
# libgtest-dev. fmt is used header-only, so it is no run-time dependency.

find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(hwy REQUIRED CONFIG)
find_package(fmt REQUIRED CONFIG)

if(VICINAL_CLI OR VICINAL_TESTS)
  find_package(nlohmann_json REQUIRED CONFIG)
endif()
if(VICINAL_CLI)
  find_package(CLI11 REQUIRED CONFIG)
endif()
if(VICINAL_TESTS)
  find_package(GTest REQUIRED CONFIG)
endif()
