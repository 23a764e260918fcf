// Which problems and tiles the Hopper kernels take, and which tiles they choose. Needs no GPU.

#include "cuda/fused_sm90/planner.h"

#include <algorithm>
#include <chrono>
#include <string>

#include <gtest/gtest.h>

#include "check/random.h"
#include "cuda/devices.h"
#include "sm90_problems.h"

namespace vicinal::cuda::sm90 {
namespace {

Problem headline_3d() {
  Problem p;
  p.rank = 3;
  p.layout = {30, 48, 80};
  p.window = {18, 24, 24};
  p.heads = p.heads_kv = 24;
  p.dim = p.dim_v = 128;
  p.dtype = DType::fp16;
  return p;
}

void expect_refusal(const Status& status, const std::string& part) {
  EXPECT_FALSE(status.ok()) << "not refused: " << part;
  EXPECT_NE(status.reason().find(part), std::string::npos) << status.reason();
}

TEST(Sm90Planner, ChoosesTilesThatTheKernelAccepts) {
  check::Random random(3);
  for (int n = 0; n < 300; ++n) {
    Problem problem = random_problem(random);
    problem.dim = random.between(1, 256);
    const Tiling tiling = forward_tiling(problem);
    EXPECT_EQ(tiling, forward_tiling(problem)) << to_string(problem);
    EXPECT_TRUE(forward_accepts(problem, tiling).ok()) << forward_accepts(problem, tiling).reason();
    const Cost cost = forward_cost(problem, tiling);
    EXPECT_GE(cost.visited_multiply_adds, cost.needed_multiply_adds) << to_string(problem);
    EXPECT_GT(cost.seconds, 0);
  }
}

TEST(Sm90Planner, ChoosesInMilliseconds) {
  // A release build takes 1.5 ms where three axes have many shapes; sanitizers cost tenfold.
  double least = 1;
  for (int n = 0; n < 20; ++n) {
    const auto start = std::chrono::steady_clock::now();
    const Tiling tiling = forward_tiling(headline_3d());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_GT(tiling.rows, 0);
    least = std::min(least, seconds.count());
  }
  EXPECT_LT(least, 50e-3);
}

TEST(Sm90Planner, SaysWhichProblemsItRefuses) {
  Problem p = headline_3d();
  p.dtype = DType::fp32;
  expect_refusal(forward_supports(p), "dtype = fp32; allowed: fp16, bf16");
  p = headline_3d();
  p.dim_v = 264;
  expect_refusal(forward_supports(p), "dim = 128, dim_v = 264; allowed: up to 256");
  p = headline_3d();
  p.layout[2] = std::int64_t{1} << 30;
  expect_refusal(forward_supports(p), "an axis of more than 536870911 tokens");
  p = headline_3d();
  p.batch = std::int64_t{1} << 20;
  expect_refusal(forward_supports(p), "too large for 32-bit work items");
  if (devices().empty()) expect_refusal(forward_supports(headline_3d()), "allowed: 9.x (Hopper)");
}

TEST(Sm90Planner, SaysWhichTilesItRefuses) {
  const Problem p = headline_3d();
  const Tiling chosen = forward_tiling(p);
  Tiling tiling = chosen;
  tiling.block = {1, 1, 1};  // of one warpgroup: for head dims up to 64
  expect_refusal(forward_accepts(p, tiling), "tiling.block = 1x1x1");
  tiling.block = {2, 2, 1};
  expect_refusal(forward_accepts(p, tiling), "tiling.block = 2x2x1");
  tiling = chosen;
  tiling.rows = 128;
  expect_refusal(forward_accepts(p, tiling), "tiling.rows = 128");
  tiling = chosen;
  tiling.columns = 64;
  expect_refusal(forward_accepts(p, tiling), "tiling.columns = 64");
}

}  // namespace
}  // namespace vicinal::cuda::sm90
