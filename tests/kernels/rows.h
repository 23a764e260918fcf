#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "plan/registry.h"

namespace vicinal {

/// Tests over every kernel of the build, each named after its row.
class EveryKernel : public testing::TestWithParam<const KernelRow*> {};

inline std::vector<const KernelRow*> all_rows() {
  std::vector<const KernelRow*> rows;
  for (const KernelRow& row : registry()) rows.push_back(&row);
  return rows;
}

inline std::string name_of_row(const testing::TestParamInfo<const KernelRow*>& info) {
  return std::string(info.param->name);
}

}  // namespace vicinal
