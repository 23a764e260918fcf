// The plan that a process makes before the first that anybody wants.

#include "plan/rehearsal.h"

#include <gtest/gtest.h>

#include "cuda/fused_sm90/cost_model.h"
#include "cuda/fused_sm90/planner.h"
#include "plan/plan_cache.h"

namespace vicinal {
namespace {

constexpr Device kGpu{DeviceType::cuda, 0};

/// Nothing but the device may be wrong with what is rehearsed: no one would hear of it.
void expect_planned_on_hopper(const Status& supported) {
  if (supported.ok()) return;
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "compute capability", supported.reason());
}

TEST(Rehearsal, MeetsEveryKernelOfHopper) {
  using cuda::sm90::Method;
  const Problem problem = rehearsed_problem(kGpu);
  EXPECT_EQ(validate(problem, Operation::forward).reason(), "");
  EXPECT_EQ(validate(problem, Operation::backward).reason(), "");
  const Problem grid = padded_to_rank_3(problem);
  expect_planned_on_hopper(cuda::sm90::forward_supports(grid));
  expect_planned_on_hopper(cuda::sm90::forward_pairs_supports(grid));
  expect_planned_on_hopper(cuda::sm90::backward_supports(grid));
  expect_planned_on_hopper(cuda::sm90::backward_one_pass_supports(grid));
  for (const Method method : {Method::forward, Method::forward_pairs, Method::backward, Method::backward_one_pass}) {
    EXPECT_TRUE(cuda::sm90::has_few_items(grid, method)) << "items are played";
  }
}

TEST(Rehearsal, MeetsVolumes) {
  for (const Problem& problem : rehearsed_volumes(kGpu)) {
    EXPECT_EQ(validate(problem, Operation::forward).reason(), "");
    expect_planned_on_hopper(cuda::sm90::forward_supports(padded_to_rank_3(problem)));
  }
}

// Whether it fails depends on what looks for the device.
TEST(Rehearsal, FailsSilently) { EXPECT_NO_THROW(rehearse_plans({DeviceType::cuda, 1 << 20})); }

TEST(Rehearsal, LeavesOtherCachesAlone) {
  const Problem problem = rehearsed_problem({});
  PlanCache cache(16);
  const Plan plan = make_plan(cache, problem, Operation::forward);
  const std::size_t choices = cache.size();
  EXPECT_GT(choices, 0);
  EXPECT_EQ(make_plan(cache, problem, Operation::forward).explain(), plan.explain());
  EXPECT_EQ(make_plan(problem, Operation::forward).explain(), plan.explain());
  EXPECT_TRUE(rehearse_plans({}));
  EXPECT_EQ(cache.size(), choices);
}

}  // namespace
}  // namespace vicinal
