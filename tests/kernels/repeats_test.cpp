// Kernels on a GPU give the same bits in twenty runs: of a problem with more work items than multiprocessors, shared
// key heads, extra tokens, and tiles seen in part; and of one whose windows neighboring blocks share. Tensors are
// aligned, for the copy engine, or not.

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
  Problem ragged;
  ragged.rank = 2;
  ragged.layout = {70, 61, 1};
  ragged.window = {13, 9, 1};
  ragged.dilation = {2, 1, 1};
  ragged.heads = 6;
  ragged.heads_kv = 2;
  ragged.dim = 64;
  ragged.dim_v = 40;
  ragged.extra_kv = 9;
  Problem shared;
  shared.rank = 1;
  shared.layout = shared.window = {1024, 1, 1};
  shared.heads = shared.heads_kv = 4;
  shared.dim = shared.dim_v = 128;
  int ran = 0;
  for (const Problem& problem : {ragged, shared}) {
    for (const DType dtype : {DType::fp16, DType::bf16}) {
      for (const std::int64_t shift : {0, 3}) {
        check::Case c{.problem = problem, .seed = 5, .gpu_runs = 20};
        c.arrange({.shift = shift});
        Problem& p = c.problem;
        p.dtype = dtype;
        p.device.type = kernel.device;
        if (is_special(kernel) && !is_unfused(kernel.operation)) p = fitted(kernel, p);
        if (problem.rank == 1 && kernel.backend != "fused") continue;  // no tiles to share, much work for an oracle
        const check::Report report = check::check_case(c, kernel);
        ran += report.ran() ? 1 : 0;
        EXPECT_TRUE(report.passed()) << fmt::format("{}, shift {}\n  {}", to_string(p), shift,
                                                    fmt::join(report.failures, "\n  "));
      }
    }
  }
  if (ran == 0) GTEST_SKIP() << "made for problems of another shape";
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Repeats);  // in builds without CUDA
INSTANTIATE_TEST_SUITE_P(Kernels, Repeats, testing::ValuesIn(gpu_rows()), name_of_row);

}  // namespace
}  // namespace vicinal
