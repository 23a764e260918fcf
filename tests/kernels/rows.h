#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cuda/devices.h"
#include "plan/registry.h"
#include "vicinal/plan.h"

namespace vicinal {

/// Tests over every kernel of the build, each named after its row.
class EveryKernel : public testing::TestWithParam<const KernelRow*> {
 protected:
  void SetUp() override {
    if (GetParam()->device == DeviceType::cuda && cuda::devices().empty()) {
      GTEST_SKIP() << "this machine has no CUDA device";
    }
  }
};

/// Whether a kernel is made for problems of one shape or dtype, and refuses most others.
inline bool is_special(const KernelRow& row) {
  return row.name.starts_with("tiled_") || row.name.starts_with("fused_sm90_");
}

inline std::vector<const KernelRow*> all_rows() {
  std::vector<const KernelRow*> rows;
  for (const KernelRow& row : registry()) rows.push_back(&row);
  return rows;
}

inline std::string name_of_row(const testing::TestParamInfo<const KernelRow*>& info) {
  return std::string(info.param->name);
}

/// Workspace for a plan on the CPU, and its address.
class Workspace {
 public:
  explicit Workspace(const Plan& plan) : lines_(plan.workspace_bytes / sizeof(Line) + 1) {}
  [[nodiscard]] std::span<std::byte> memory() { return {lines_.front().bytes, lines_.size() * sizeof(Line)}; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
};

}  // namespace vicinal
