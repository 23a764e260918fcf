// Kernels on a GPU give the same bits in twenty runs: of a problem with more work items than multiprocessors, shared
// key heads, extra tokens, and tiles seen in part.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "check/case.h"
#include "check/check.h"
#include "rows.h"

namespace vicinal {
namespace {

using Repeats = EveryKernel;

/// Of those that promise it; those of the CPU the sweep runs with several numbers of threads.
std::vector<const KernelRow*> gpu_rows() {
  std::vector<const KernelRow*> rows = all_rows();
  std::erase_if(rows, [](const KernelRow* row) { return row->device == DeviceType::cpu || !row->deterministic; });
  return rows;
}

TEST_P(Repeats, GiveTheSameBits) {
  const KernelRow& kernel = *GetParam();
  if (kernel.device == DeviceType::cpu)
    GTEST_SKIP() << "a kernel of the CPU, which the sweep runs with several threads";
  for (const DType dtype : {DType::fp16, DType::bf16}) {
    check::Case c;
    c.seed = 5;
    c.gpu_runs = 20;
    Problem& p = c.problem;
    p.rank = 2;
    p.layout = {70, 61, 1};
    p.window = {13, 9, 1};
    p.dilation = {2, 1, 1};
    p.heads = 6;
    p.heads_kv = 2;
    p.dim = 64;
    p.dim_v = 40;
    p.extra_kv = 9;
    p.dtype = dtype;
    p.device.type = kernel.device;
    if (is_special(kernel) && !is_unfused(kernel.operation)) p = fitted(kernel, p);
    const check::Report report = check::check_case(c, kernel);
    if (!report.ran()) GTEST_SKIP() << report.refusal;
    EXPECT_TRUE(report.passed()) << fmt::format("{}\n  {}", to_string(p), fmt::join(report.failures, "\n  "));
  }
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Repeats);  // in builds without CUDA
INSTANTIATE_TEST_SUITE_P(Kernels, Repeats, testing::ValuesIn(gpu_rows()), name_of_row);

}  // namespace
}  // namespace vicinal
