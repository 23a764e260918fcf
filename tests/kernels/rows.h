#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "plan/registry.h"
#include "vicinal/attention.h"
#include "vicinal/unfused.h"

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

template <class Tensors>
void run_with_workspace(const Plan& plan, const Tensors& tensors) {
  std::vector<std::byte> memory(plan.workspace_bytes + 64);
  void* workspace = memory.data();
  std::size_t space = memory.size();
  std::align(64, plan.workspace_bytes, workspace, space);
  run(plan, tensors, {.workspace = workspace, .workspace_bytes = plan.workspace_bytes});
}

}  // namespace vicinal
