#include "vicinal/plan.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "core/tiling.h"
#include "plan/cost.h"
#include "plan/registry.h"
#include "vicinal/attention.h"

namespace vicinal {
namespace {

Problem window_13() {
  Problem p;
  p.rank = 2;
  p.layout = {64, 64, 1};
  p.window = {13, 13, 1};
  return p;
}

template <class Call>
std::string error_of(ErrorKind kind, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "no error";
}

TEST(Registry, RowsAreComplete) {
  std::set<std::string_view> names;
  for (const KernelRow& row : registry()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_FALSE(row.backend.empty());
    EXPECT_TRUE(row.supports && row.tiling && row.accepts && row.cost && row.workspace) << row.name;
    const std::set<Operation> launches = [&] {
      std::set<Operation> set;
      if (row.forward != nullptr) set.insert(Operation::forward);
      if (row.backward != nullptr) set.insert(Operation::backward);
      if (row.pointwise_neighborhood != nullptr) set.insert(Operation::pointwise_neighborhood);
      if (row.neighborhood_neighborhood != nullptr) set.insert(Operation::neighborhood_neighborhood);
      if (row.inverse_neighborhood != nullptr) set.insert(Operation::inverse_neighborhood);
      if (row.bias_gradient != nullptr) set.insert(Operation::bias_gradient);
      return set;
    }();
    EXPECT_EQ(launches, std::set{row.operation}) << row.name;
  }
}

TEST(Registry, TheReferenceDoesEverything) {
  for (const Operation operation : {Operation::forward, Operation::backward}) {
    EXPECT_EQ(make_plan(window_13(), operation, {.backend = "reference", .tiling = {}}).kernel->backend, "reference");
  }
}

TEST(Planner, TakesTheCheapestKernelAndSaysWhatTheOthersWouldCost) {
  const Plan plan = make_plan(window_13(), Operation::forward);
  ASSERT_NE(plan.kernel, nullptr);
  EXPECT_EQ(plan.problem, window_13());
  std::set<std::string> mentioned{std::string(plan.kernel_name())};
  for (const Refusal& refusal : plan.refusals) {
    EXPECT_FALSE(refusal.reason.empty());
    mentioned.insert(refusal.kernel);
  }
  for (const KernelRow& row : registry()) {
    if (row.operation != Operation::forward) continue;
    EXPECT_TRUE(mentioned.contains(std::string(row.name))) << row.name;
    const Problem grid = padded_to_rank_3(window_13());
    if (row.device == DeviceType::cpu && row.supports(grid).ok()) {
      EXPECT_LE(plan.cost.seconds, row.cost(grid, row.tiling(grid)).seconds) << row.name;
    }
  }
}

TEST(Planner, TilesAreAcceptedByTheirKernelAndVisitWhatIsNeeded) {
  for (const Operation operation : {Operation::forward, Operation::backward}) {
    for (const KernelRow& row : registry()) {
      if (row.operation != operation || row.device != DeviceType::cpu) continue;
      const Plan plan = make_plan(window_13(), operation, {.backend = std::string(row.name), .tiling = {}});
      EXPECT_EQ(plan.kernel_name(), row.name);
      EXPECT_TRUE(row.accepts(padded_to_rank_3(window_13()), plan.tiling).ok()) << row.name;
      EXPECT_GE(plan.cost.visited_multiply_adds, plan.cost.needed_multiply_adds) << row.name;
      EXPECT_GT(plan.cost.seconds, 0) << row.name;
    }
  }
}

TEST(Planner, RefusesWhatIsNoProblem) {
  Problem p = window_13();
  p.window[0] = 65;
  EXPECT_EQ(error_of(ErrorKind::invalid_argument, [&] { make_plan(p, Operation::forward); }),
            "window[0] = 65, but layout[0] = 64; allowed: window * dilation <= extent");
}

TEST(Planner, NamesTheBackendsThatThereAre) {
  const auto error = error_of(ErrorKind::invalid_argument, [] {
    make_plan(window_13(), Operation::forward, {.backend = "cutlass-fna", .tiling = {}});
  });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "backend = \"cutlass-fna\" names no kernel for forward; allowed: ", error);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "reference", error);
}

TEST(Planner, AKernelOfTheOtherPassIsUnknown) {
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "names no kernel for forward", error_of(ErrorKind::invalid_argument, [] {
                        make_plan(window_13(), Operation::forward, {.backend = "reference_backward", .tiling = {}});
                      }));
}

TEST(Planner, AForcedBackendThatCannotGivesItsReason) {
  Problem p = window_13();
  p.device = {DeviceType::cuda, 0};
  const auto error = error_of(ErrorKind::unsupported,
                              [&] { make_plan(p, Operation::forward, {.backend = "reference", .tiling = {}}); });
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "no kernel can do the forward pass of --layout 64x64", error);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "reference_forward: runs on cpu, the problem is on cuda", error);
}

TEST(Planner, OtherBackendsAreNotAsked) {
  const Plan plan = make_plan(window_13(), Operation::forward, {.backend = "reference", .tiling = {}});
  for (const Refusal& refusal : plan.refusals) EXPECT_EQ(refusal.reason, "backend \"reference\" was asked for");
}

TEST(Planner, ForcedTilesMustMakeSense) {
  const auto error_with = [](const Tiling& tiling) {
    return error_of(ErrorKind::invalid_argument,
                    [&] { make_plan(window_13(), Operation::forward, {.backend = "", .tiling = tiling}); });
  };
  EXPECT_EQ(error_with({.query_tile = {1, 8, 8}, .rows = 32}),
            "tiling.query_tile = 1x8x8 with tiling.rows = 32; allowed: extents of at least 1 whose product is at most "
            "rows");
  EXPECT_EQ(error_with({.key_tile = {1, 0, 8}, .columns = 32}),
            "tiling.key_tile = 1x0x8 with tiling.columns = 32; allowed: extents of at least 1 whose product is at most "
            "columns");
  EXPECT_EQ(error_with({.block = {1, 1, -1}}), "tiling.block = 1x1x-1; allowed: extents of at least 1");
}

TEST(Planner, AKernelMayRefuseForcedTiles) {
  const Tiling tiling{.query_tile = {1, 2, 2}, .rows = 4};
  EXPECT_PRED_FORMAT2(
      testing::IsSubstring, "reference_forward: works on one pair at a time; allowed: every extent of the tiling 1",
      error_of(ErrorKind::unsupported,
               [&] { make_plan(window_13(), Operation::forward, {.backend = "reference", .tiling = tiling}); }));
}

TEST(Plan, ExplainsItself) {
  const Plan plan = make_plan(window_13(), Operation::backward, {.backend = "reference", .tiling = {}});
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "backward pass of --layout 64x64 --window 13x13 --heads 1 --dim 64 --dtype fp32\n",
                      plan.explain());
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "  kernel     reference_backward (backend reference)\n", plan.explain());
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "1x1x1 queries in 1 rows x 1x1x1 keys in 1 columns", plan.explain());
  EXPECT_PRED_FORMAT2(testing::IsSubstring,
                      "  work       222 million multiply-adds visited, 222 million needed: 1.00 times\n",
                      plan.explain());
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "  memory     8.02 MiB moved, 32 KiB of workspace\n", plan.explain());
}

TEST(Plan, AnEmptyOneSaysSo) {
  EXPECT_EQ(Plan{}.explain(), "no plan");
  EXPECT_EQ(Plan{}.kernel_name(), "");
  EXPECT_EQ(error_of(ErrorKind::invalid_argument, [] { run(Plan{}, ForwardTensors{}); }),
            "plan is empty; allowed: what make_plan returned");
}

TEST(Plan, RunsTheTensorsOfItsPass) {
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "plan is for the backward pass, the tensors are of the forward pass",
                      error_of(ErrorKind::invalid_argument,
                               [] { run(make_plan(window_13(), Operation::backward), ForwardTensors{}); }));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "plan is for the forward pass, the tensors are of the backward pass",
                      error_of(ErrorKind::invalid_argument,
                               [] { run(make_plan(window_13(), Operation::forward), BackwardTensors{}); }));
}

TEST(Cost, CountsTheWorkOfBothPasses) {
  Problem p = padded_to_rank_3(window_13());
  p.batch = 2;
  p.heads = 3;
  p.dim = 8;
  p.dim_v = 5;
  EXPECT_EQ(multiply_adds(p, Operation::forward, 10), 2 * 3 * 10 * (8 + 5));
  EXPECT_EQ(multiply_adds(p, Operation::backward, 10), 2 * 3 * 10 * (3 * 8 + 2 * 5));
  EXPECT_EQ(multiply_adds(p, Operation::pointwise_neighborhood, 10), 2 * 3 * 10 * 8);
  EXPECT_EQ(multiply_adds(p, Operation::bias_gradient, 10), 2 * 3 * 10);
}

TEST(Cost, CountsEachTensorOnce) {
  Problem p = padded_to_rank_3(window_13());
  p.batch = 2;
  p.heads = 4;
  p.heads_kv = 2;
  p.dim = 8;
  p.dim_v = 6;
  p.extra_kv = 10;
  p.dtype = DType::fp16;
  const double tokens = 64 * 64;
  const double keys_values = 2 * (tokens + 10) * 2 * (8 + 6);
  const double query_output = 2 * tokens * 4 * (8 + 6);
  const double logsumexp = 2 * tokens * 4 * 4;
  EXPECT_EQ(compulsory_bytes(p, Operation::forward), 2 * (keys_values + query_output) + logsumexp);
  EXPECT_EQ(compulsory_bytes(p, Operation::backward), 4 * (keys_values + query_output) + logsumexp);

  p.dim_v = 8;
  const double weights = 2 * tokens * 4 * (13 * 13 + 10);
  EXPECT_EQ(weight_elements(p), weights);
  for (const Operation operation :
       {Operation::pointwise_neighborhood, Operation::neighborhood_neighborhood, Operation::inverse_neighborhood}) {
    EXPECT_EQ(compulsory_bytes(p, operation), 2 * (weights + 2 * (tokens + 10) * 2 * 8 + 2 * tokens * 4 * 8));
  }
  EXPECT_EQ(compulsory_bytes(p, Operation::bias_gradient), 2 * weights);
}

}  // namespace
}  // namespace vicinal
