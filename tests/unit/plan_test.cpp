#include "vicinal/plan.h"

#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/tiling.h"
#include "plan/cost.h"
#include "plan/plan_cache.h"
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

std::atomic<int> times_asked = 0;

/// A row whose choice says which problem it was made for.
constexpr KernelRow kCountingRow{
    .name = "counting",
    .backend = "test",
    .operation = Operation::forward,
    .device = DeviceType::cpu,
    .supports = [](const Problem&) { return Status{}; },
    .tiling =
        [](const Problem& grid) {
          ++times_asked;
          return Tiling{.query_tile = grid.layout, .key_tile = grid.window};
        },
    .accepts = [](const Problem&, const Tiling&) { return Status{}; },
    .cost = [](const Problem& grid, const Tiling&) { return Cost{.seconds = static_cast<double>(grid.heads)}; },
    .workspace = [](const Problem&, const Tiling&) { return std::size_t{0}; },
};

TEST(Planner, TakesOnlyDeterministicKernelsWhereSoAsked) {
  const Problem grid = padded_to_rank_3(window_13());
  KernelRow row = kCountingRow;
  EXPECT_TRUE(usable(row, grid, {.backend = "test", .tiling = {}, .deterministic = true}).ok());
  row.deterministic = false;
  EXPECT_TRUE(usable(row, grid, {}).ok());
  EXPECT_EQ(usable(row, grid, {.backend = "test", .tiling = {}, .deterministic = true}).reason(),
            "adds up in an order that changes from run to run; deterministic results were asked for");
}

TEST(Planner, EveryProblemHasADeterministicKernel) {
  for (const Operation operation : kOperations) {
    const Plan plan = make_plan(window_13(), operation, {.backend = "", .tiling = {}, .deterministic = true});
    EXPECT_TRUE(plan.kernel->deterministic) << plan.kernel_name();
  }
}

TEST(PlanCache, AsksOncePerProblem) {
  constexpr KernelRow kOtherRow = kCountingRow;
  PlanCache cache(100);
  std::vector<Problem> problems;
  const std::vector<std::function<void(Problem&)>> changes{
      [](Problem&) {},
      [](Problem& p) { p.layout[1] += 1; },
      [](Problem& p) { p.window[2] += 1; },
      [](Problem& p) { p.stride[1] += 1; },
      [](Problem& p) { p.dilation[1] += 1; },
      [](Problem& p) { p.causal[1] = true; },
      [](Problem& p) { p.causal[2] = true; },
      [](Problem& p) { p.batch = 2; },
      [](Problem& p) { p.heads = 2; },
      [](Problem& p) { p.heads = p.heads_kv = 2; },
      [](Problem& p) { p.dim = 32; },
      [](Problem& p) { p.dim_v = 32; },
      [](Problem& p) { p.extra_kv = 1; },
      [](Problem& p) { p.scale = 0.5; },
      [](Problem& p) { p.dtype = DType::bf16; },
      [](Problem& p) { p.device = {DeviceType::cuda, 0}; },
      [](Problem& p) { p.device = {DeviceType::cuda, 1}; },
      [](Problem& p) { p.alignment = 8; },
  };
  for (const auto& change : changes) change(problems.emplace_back(padded_to_rank_3(window_13())));
  times_asked = 0;
  for (int again = 0; again < 3; ++again) {
    for (const Problem& p : problems) {
      const Choice choice = cache.choice(kCountingRow, p);
      EXPECT_EQ(choice.tiling.query_tile, p.layout);
      EXPECT_EQ(choice.tiling.key_tile, p.window);
      EXPECT_EQ(choice.cost.seconds, static_cast<double>(p.heads));
    }
    EXPECT_EQ(times_asked, problems.size());
  }
  cache.choice(kOtherRow, problems.front());
  EXPECT_EQ(times_asked, problems.size() + 1);
}

TEST(PlanCache, IsBounded) {
  PlanCache cache(10);
  Problem p = padded_to_rank_3(window_13());
  for (int n = 0; n < 35; ++n, ++p.batch) {
    cache.choice(kCountingRow, p);
    EXPECT_LE(cache.size(), 10);
  }
  EXPECT_EQ(cache.size(), 5);
}

TEST(PlanCache, ServesManyThreads) {
  PlanCache cache(7);  // fewer than the problems: it forgets all the time
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads(4);
  for (int t = 0; t < 4; ++t) {
    threads[t] = std::thread([&cache, &wrong, t] {
      Problem p = padded_to_rank_3(window_13());
      for (int n = 0; n < 2000; ++n) {
        p.heads = p.heads_kv = 1 + (n * (t + 1)) % 11;
        if (cache.choice(kCountingRow, p).cost.seconds != static_cast<double>(p.heads)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(cache.size(), 7);
}

TEST(Planner, PlansAgainAsBefore) {
  for (const Operation operation : {Operation::forward, Operation::backward}) {
    const Plan first = make_plan(window_13(), operation);
    const Plan again = make_plan(window_13(), operation);
    EXPECT_EQ(again.kernel, first.kernel);
    EXPECT_EQ(again.explain(), first.explain());
    const Plan other = make_plan(window_13(), operation, {.backend = "reference", .tiling = {}});
    EXPECT_EQ(other.kernel->backend, "reference");
  }
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
