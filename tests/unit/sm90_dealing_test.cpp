// How work items come to blocks, against launches that are played item by item.

#include "cuda/fused_sm90/dealing.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <numeric>
#include <queue>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "check/random.h"
#include "cuda/fused_sm90/cost_model.h"
#include "cuda/fused_sm90/planner.h"
#include "cuda/fused_sm90/tiles.h"
#include "sm90_problems.h"

namespace vicinal::cuda::sm90 {
namespace {

/// Seconds of every item of a launch.
std::vector<double> item_seconds(const TiledGrid& grid, RowKind rows, const BlockCosts& costs) {
  std::vector<double> seconds;
  for (int i = 0; i < grid.items; ++i) {
    const WorkItem item(grid, i);
    int tiles[3];
    Range needed{};
    for (int a = 0; a < 3; ++a) {
      const AxisShare share = rows == RowKind::queries
                                  ? axis_share<RowKind::queries>(grid, a, item.group[a], item.origin[a], 0)
                                  : axis_share<RowKind::keys>(grid, a, item.group[a], item.origin[a], 0);
      tiles[a] = share.column_tiles;
      if (a == grid.split_axis) needed = share.needed;
    }
    const int heads = rows == RowKind::keys ? static_cast<int>(grid.heads_per_kv) : 1;
    const int total = Share(grid, tiles, needed).total;
    seconds.push_back(total == 0 ? 0 : total * heads * costs.tile + costs.item);
  }
  return seconds;
}

/// As `Producer::run` takes them.
double end_of_turns(const std::vector<double>& items, int blocks) {
  std::vector<double> busy(blocks);
  for (int block = 0; block < blocks; ++block) {
    int place = block;
    for (std::size_t turn = 0; turn < items.size(); turn += blocks) {
      const std::size_t number = turn + place;
      place = place + 1 < blocks ? place + 1 : 0;
      if (number < items.size()) busy[block] += items[number];
    }
  }
  return std::ranges::max(busy);
}

double end_of_blocks(const std::vector<double>& items, int places) {
  std::priority_queue<double, std::vector<double>, std::greater<>> free;
  for (int i = 0; i < places; ++i) free.push(0);
  double end = 0;
  for (const double item : items) {
    const double until = free.top() + item + kBlockStartSeconds;
    free.pop();
    free.push(until);
    end = std::max(end, until);
  }
  return end - kBlockStartSeconds;
}

TEST(Sm90Dealing, IsAsUnevenAsLaunchesAre) {
  check::Random random(21);
  int by_the_device = 0;
  for (int n = 0; n < 2000; ++n) {
    Problem problem = random_problem(random);
    problem.heads_kv = random.between(1, 150);
    problem.heads = problem.heads_kv * random.between(1, 2);
    Tiling tiling{.query_tile = {}, .key_tile = {}, .rows = kWarpgroupRows, .columns = 64};
    for (int a = 0; a < 3; ++a) {
      tiling.query_tile[a] = random.between(1, 4);
      tiling.key_tile[a] = random.between(1, 4);
    }
    tiling.block[random.between(0, 2)] = random.between(1, 2);
    const int blocks = static_cast<int>(random.between(1, 4));
    const BlockCosts costs{1e-6 * static_cast<double>(random.between(1, 20)),
                           1e-6 * static_cast<double>(random.between(1, 5))};
    for (const RowKind rows : {RowKind::queries, RowKind::keys}) {
      const TiledGrid grid(problem, tiling, rows);
      const int places = blocks * kMultiprocessors;
      if (grid.items > kMostUnevenItems) continue;
      const std::vector<double> items = item_seconds(grid, rows, costs);
      const double even = std::accumulate(items.begin(), items.end(), 0.0) / places;
      const double in_turns = end_of_turns(items, places) / even;
      const double of_the_device = end_of_blocks(items, places) / even;
      const Deal deal = best_deal(grid, rows, blocks, costs);
      const std::string where = to_string(problem) + " " + std::to_string(n);
      if (deal.dealing == Dealing::in_turns) {
        EXPECT_NEAR(deal.unevenness, in_turns, 0.06 * in_turns) << where;
        EXPECT_LE(in_turns, 1.2 * of_the_device) << where;  // one long item may begin later where ends are rounded
      } else {
        ++by_the_device;
        EXPECT_NEAR(deal.unevenness, of_the_device, 0.02 * of_the_device) << where;
        EXPECT_GE(in_turns, 1.03 * of_the_device) << where;
      }
    }
  }
  EXPECT_GT(by_the_device, 100);
}

/// Of one axis.
Problem problem_of(std::int64_t tokens, std::int64_t window, bool causal, std::int64_t heads) {
  Problem p;
  p.rank = 1;
  p.layout = {tokens, 1, 1};
  p.window = {window, 1, 1};
  p.causal = {causal, false, false};
  p.heads = p.heads_kv = heads;
  p.dim = p.dim_v = 128;
  p.dtype = DType::fp16;
  return padded_to_rank_3(p);
}

Deal deal_along_one_axis(const Problem& problem, Method method, std::int64_t box, RowKind rows) {
  const KernelClass& size = *std::ranges::find(classes_of(method), 128, &KernelClass::dim);
  const Tiling tiling{.query_tile = {1, 1, box},
                      .key_tile = {1, 1, size.columns},
                      .block = {1, 1, 2},
                      .rows = kWarpgroupRows,
                      .columns = size.columns};
  return deal_of(TiledGrid(problem, tiling, rows), method, size, rows);
}

TEST(Sm90Dealing, IsLeftToTheDeviceWhereTurnsAreUneven) {
  const Deal causal = deal_along_one_axis(problem_of(16384, 16384, true, 8), Method::forward, 64, RowKind::queries);
  EXPECT_EQ(causal.dealing, Dealing::by_the_device);
  EXPECT_LT(causal.unevenness, 1.1);

  const Deal dense = deal_along_one_axis(problem_of(16384, 16384, false, 8), Method::forward, 64, RowKind::queries);
  EXPECT_EQ(dense.dealing, Dealing::in_turns);
  EXPECT_DOUBLE_EQ(dense.unevenness, 8 * 132 / 1024.0);

  // Keys in the middle are seen by more queries; of 212 items the longest are side by side in both turns.
  const Problem wide = problem_of(27048, 11161, false, 1);
  const Deal keys = deal_along_one_axis(wide, Method::backward_one_pass, 64, RowKind::keys);
  EXPECT_EQ(keys.dealing, Dealing::by_the_device);
  EXPECT_LT(keys.unevenness, 1.25);
  const Deal shorter = deal_along_one_axis(wide, Method::backward_one_pass, 59, RowKind::keys);
  EXPECT_EQ(shorter.dealing, Dealing::in_turns);
  EXPECT_LT(shorter.unevenness, 1.2);
}

TEST(Sm90Dealing, IsEstimatedFromTheLongestItem) {
  EXPECT_DOUBLE_EQ(unevenness_of_items(66, 132, 1.5), 3);        // all begin at once
  EXPECT_DOUBLE_EQ(unevenness_of_items(1024, 132, 1), 1.03125);  // alike
  EXPECT_DOUBLE_EQ(unevenness_of_items(264, 132, 1.5), 1.3);     // in turns two long ones hardly meet
  EXPECT_GE(unevenness_of_items(140, 132, 4), 4 * 132 / 140.0);  // the longest alone
  // Against a launch that is played.
  const Problem causal = problem_of(16384, 16384, true, 8);
  const Tiling tiling{
      .query_tile = {1, 1, 64}, .key_tile = {1, 1, 128}, .block = {1, 1, 2}, .rows = kWarpgroupRows, .columns = 128};
  const BlockCosts costs{1e-6, 1e-6};
  const TiledGrid grid(causal, tiling, RowKind::queries);
  const std::vector<double> items = item_seconds(grid, RowKind::queries, costs);
  const double mean = std::accumulate(items.begin(), items.end(), 0.0) / static_cast<double>(items.size());
  const double played = best_deal(grid, RowKind::queries, 1, costs).unevenness;
  EXPECT_NEAR(unevenness_of_items(grid.items, kMultiprocessors, std::ranges::max(items) / mean), played, 0.15 * played);
}

TEST(Sm90Dealing, LongItemsOfCausalQueriesComeFirst) {
  const Problem problem = problem_of(960, 700, true, 2);
  const Tiling tiling{
      .query_tile = {1, 1, 48}, .key_tile = {1, 1, 64}, .block = {1, 1, 2}, .rows = kWarpgroupRows, .columns = 64};
  for (const RowKind rows : {RowKind::queries, RowKind::keys}) {
    const TiledGrid grid(problem, tiling, rows);
    const std::vector<double> items = item_seconds(grid, rows, {1, 0});
    const auto of_head = std::span(items).first(items.size() / 2);
    EXPECT_TRUE(std::ranges::is_sorted(of_head, std::greater<>()));
    EXPECT_GT(of_head.front(), of_head.back());
  }
}

TEST(Sm90Dealing, IsExplained) {
  Tiling tiling{
      .query_tile = {1, 1, 64}, .key_tile = {1, 1, 128}, .block = {1, 1, 2}, .rows = kWarpgroupRows, .columns = 128};
  const std::string along_z = "2 warpgroups side by side along axis 2; tiles along axis 2, then heads; ";
  EXPECT_EQ(forward_order(problem_of(16384, 16384, false, 8), tiling), along_z + "in turns to 132 blocks");
  EXPECT_EQ(forward_order(problem_of(16384, 16384, true, 8), tiling),
            along_z + "by the device, a block for each item, causal axes from the end");
  EXPECT_EQ(forward_order(problem_of(1024, 64, false, 2), tiling), along_z + "in turns to 16 blocks");

  // Each number of tiles is that of its own axis: the split one is the outermost loop.
  Problem grid = problem_of(60, 9, false, 2);
  grid.layout = {24, 40, 60};
  grid.dilation = {1, 2, 1};
  grid.causal = {true, false, false};
  tiling.query_tile = {4, 4, 4};
  tiling.block = {1, 2, 1};
  const std::string along_y =
      "2 warpgroups side by side along axis 1; tiles along axis 2, then tiles along axis 0, then tiles along axis 1, "
      "then dilation groups, then heads; ";
  const std::string by_the_device = "by the device, a block for each item";
  EXPECT_EQ(backward_order(grid, tiling),
            along_y + "over queries " + by_the_device + ", causal axes from the end; over keys " + by_the_device);
  EXPECT_EQ(backward_one_pass_order(grid, tiling), along_y + "over keys " + by_the_device);
  std::array<int, 3> next{};  // items from the first to the next along each axis
  const TiledGrid tiled(grid, tiling);
  for (int a = 0; a < 3; ++a) {
    const int first = WorkItem(tiled, 0).origin[a];
    while (WorkItem(tiled, next[a]).origin[a] == first) ++next[a];
  }
  EXPECT_LT(next[2], next[0]);
  EXPECT_LT(next[0], next[1]);

  grid = problem_of(60, 9, false, 4);
  grid.dim = grid.dim_v = 32;
  tiling = {.query_tile = {1, 1, 64}, .key_tile = {1, 1, 64}, .rows = kWarpgroupRows, .columns = 64};
  EXPECT_EQ(forward_pairs_order(grid, tiling), "1 warpgroup; heads; in turns to 2 blocks");
}

TEST(Sm90Dealing, IsDecidedInMicroseconds) {
  // At every launch. A release build takes 12 us for these 2048 items, sanitizers ten times as long.
  const Problem problem = problem_of(16384, 16384, true, 16);
  double least = 1;
  for (int n = 0; n < 20; ++n) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(deal_along_one_axis(problem, Method::forward, 64, RowKind::queries).dealing, Dealing::by_the_device);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    least = std::min(least, seconds.count());
  }
  RecordProperty("microseconds", std::to_string(1e6 * least));
  EXPECT_LT(least, 1e-3);
}

}  // namespace
}  // namespace vicinal::cuda::sm90
