#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cuda/devices.h"
#include "plan/registry.h"
#include "vicinal/plan.h"

namespace vicinal {

/// Whether a kernel is made for problems of one shape, and refuses most others.
inline bool is_special(const KernelRow& row) { return row.name.starts_with("tiled_") || row.name.ends_with("_pairs"); }

inline constexpr std::array kDTypes{DType::fp64, DType::fp32, DType::fp16, DType::bf16};

/// A problem that every kernel does in some dtype.
inline Problem usual_problem(const KernelRow& row, DType dtype) {
  Problem p;
  p.rank = 2;
  p.layout = {16, 16, 1};
  p.window = {7, 7, 1};
  p.heads = p.heads_kv = 2;
  p.dim = p.dim_v = 32;
  p.dtype = dtype;
  p.device.type = row.device;
  return padded_to_rank_3(p);
}

/// What a kernel says to it.
inline Status supports_usual(const KernelRow& row, DType dtype) { return row.supports(usual_problem(row, dtype)); }

/// Whether a kernel that takes fp16 takes extra tokens.
inline bool takes_extra_tokens(const KernelRow& row) {
  Problem p = usual_problem(row, DType::fp16);
  p.extra_kv = 1;
  return row.supports(p).ok();
}

/// The problem, or, where a kernel refuses it, the same with the head dim and the numbers of heads of the usual one.
inline Problem fitted(const KernelRow& row, Problem p) {
  if (!row.supports(padded_to_rank_3(p)).ok()) {
    const Problem usual = usual_problem(row, p.dtype);
    p.dim = p.dim_v = usual.dim;
    p.heads = p.heads_kv = usual.heads;
  }
  return p;
}

/// The number of dtypes that a kernel takes.
inline auto usual_dtypes(const KernelRow& row) {
  return std::ranges::count_if(kDTypes, [&](DType dtype) { return supports_usual(row, dtype).ok(); });
}

/// For SetUp: skips a test of a kernel that needs another device than this machine has.
inline void skip_without_device(const KernelRow& row) {
  if (row.device == DeviceType::cuda && cuda::devices().empty()) GTEST_SKIP() << "this machine has no CUDA device";
  const Status usual = supports_usual(row, DType::fp16);  // which every kernel takes
  if (usual.reason().find("compute capability") != std::string::npos) GTEST_SKIP() << usual.reason();
  ASSERT_TRUE(usual.ok()) << usual.reason();
}

/// Tests over every kernel of the build, each named after its row.
class EveryKernel : public testing::TestWithParam<const KernelRow*> {
 protected:
  void SetUp() override { skip_without_device(*GetParam()); }
};

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
