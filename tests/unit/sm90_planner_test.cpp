// Which problems and tiles the Hopper kernels take, and which tiles they choose. Needs no GPU.

#include "cuda/fused_sm90/planner.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "check/random.h"
#include "core/tiling.h"
#include "cuda/devices.h"
#include "cuda/fused_sm90/cost_model.h"
#include "cuda/fused_sm90/search.h"
#include "cuda/fused_sm90/tiles.h"
#include "plan/cost.h"
#include "plan/plan_cache.h"
#include "plan/registry.h"
#include "sm90_problems.h"

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kAllBlocks = std::numeric_limits<int>::max();
constexpr PerAxis<int> kAll{kAllBlocks, kAllBlocks, kAllBlocks};

/// The functions of the planner that serve one method.
struct Planner {
  const char* name;
  Method method;
  Status (*supports)(const Problem&);
  Status (*accepts)(const Problem&, const Tiling&);
  Tiling (*tiling)(const Problem&);
  std::vector<Tiling> (*tilings)(const Problem&, std::size_t);
  Cost (*cost)(const Problem&, const Tiling&);
};
constexpr std::array kPlanners{
    Planner{"forward", Method::forward, forward_supports, forward_accepts, forward_tiling, forward_tilings,
            forward_cost},
    Planner{"forward_pairs", Method::forward_pairs, forward_pairs_supports, forward_pairs_accepts, forward_pairs_tiling,
            forward_pairs_tilings, forward_pairs_cost},
    Planner{"backward", Method::backward, backward_supports, backward_accepts, backward_tiling, backward_tilings,
            backward_cost},
    Planner{"backward_one_pass", Method::backward_one_pass, backward_one_pass_supports, backward_one_pass_accepts,
            backward_one_pass_tiling, backward_one_pass_tilings, backward_one_pass_cost},
};

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

/// A problem as a method takes it.
Problem fitted(Problem p, Method method) {
  if (method == Method::backward_one_pass) {
    p.dim = std::min<std::int64_t>(p.dim, kOnePassClasses.back().dim);
    p.extra_kv = 0;
  }
  if (method == Method::forward_pairs) {
    p.dim = p.dim_v = 32;
    p.heads = p.heads_kv = 2 * p.heads;
  }
  return p;
}

/// Those of benchmarks/suites/headline.json.
std::vector<Problem> headline_suite() {
  std::vector<Problem> suite(8, headline_3d());
  const auto set = [&](std::size_t n, int rank, const PerAxis<std::int64_t>& layout,
                       const PerAxis<std::int64_t>& window, std::int64_t batch, std::int64_t heads, std::int64_t dim) {
    Problem& p = suite[n];
    p.rank = rank;
    p.layout = layout;
    p.window = window;
    p.batch = batch;
    p.heads = p.heads_kv = heads;
    p.dim = p.dim_v = dim;
  };
  set(0, 1, {32768, 1, 1}, {2048, 1, 1}, 1, 16, 128);
  set(1, 2, {256, 256, 1}, {80, 80, 1}, 1, 24, 128);
  suite[3].stride = {16, 8, 8};
  set(4, 2, {56, 56, 1}, {7, 7, 1}, 128, 2, 32);
  set(5, 2, {56, 56, 1}, {7, 7, 1}, 128, 2, 32);
  suite[5].dilation = {8, 8, 1};
  set(6, 2, {128, 128, 1}, {13, 13, 1}, 4, 8, 64);
  set(7, 3, {16, 64, 64}, {7, 7, 7}, 1, 12, 64);
  for (Problem& p : suite) p = padded_to_rank_3(p);
  return suite;
}

/// A problem of the sizes that a GPU is for.
Problem large_problem(check::Random& random) {
  Problem p;
  p.rank = static_cast<int>(random.between(1, 3));
  const std::int64_t longest = p.rank == 1 ? 8192 : p.rank == 2 ? 160 : 48;
  for (int a = 0; a < p.rank; ++a) {
    p.layout[a] = random.between(longest / 8, longest);
    p.dilation[a] = random.chance(0.8) ? 1 : random.between(2, 3);
    const std::int64_t most = p.layout[a] / p.dilation[a];
    p.window[a] = random.between(1, random.chance(0.5) ? ceil_div(most, 4) : most);
    p.stride[a] = random.chance(0.7) ? 1 : random.between(1, p.window[a]);
    p.causal[a] = random.chance(0.2);
  }
  p.batch = random.between(1, 4);
  p.heads = p.heads_kv = random.between(1, 16);
  p.dim = p.dim_v = random.one_of<std::int64_t>({32, 64, 96, 128});
  p.dtype = DType::fp16;
  return padded_to_rank_3(p);
}

/// What a tiling takes by the model that the planner searches, but with every block looked at: the planner looks at
/// some. Remembers what it asked.
class Model {
 public:
  Model(const Problem& grid, Method method)
      : grid_(grid), method_(method), classes_(classes_of(method)), passes_(passes_of(method)) {
    for (int a = 0; a < 3; ++a) {
      members_[a] = group_members(grid.layout[a], grid.dilation[a], std::int64_t{0});
    }
    const int dim = class_dim(classes_, std::max(grid.dim, grid.dim_v));
    std::erase_if(sizes_ = {classes_.begin(), classes_.end()},
                  [=](const KernelClass& size) { return size.dim != dim; });
  }

  /// The least seconds among all boxes, and tiles that cannot grow.
  double least() {
    double least = std::numeric_limits<double>::infinity();
    for (const KernelClass& size : sizes_) {
      const CostModel model(grid_, method_, size);
      std::vector<PerAxis<std::int64_t>> tiles = boxes(size.columns);
      std::erase_if(tiles, [&](const PerAxis<std::int64_t>& t) {
        return (t[0] < members_[0] && (t[0] + 1) * t[1] * t[2] <= size.columns) ||
               (t[1] < members_[1] && t[0] * (t[1] + 1) * t[2] <= size.columns) ||
               (t[2] < members_[2] && t[0] * t[1] * (t[2] + 1) <= size.columns);
      });
      for (const PerAxis<std::int64_t>& box : boxes(kWarpgroupRows)) {
        for (int axis = 0; axis < (size.warpgroups == 1 ? 1 : 3); ++axis) {
          if (size.warpgroups > 1 && box[axis] == members_[axis] && box != members_) continue;  // one would be idle
          for (const PerAxis<std::int64_t>& tile : tiles) {
            std::array<Work, 2> works{};
            for (std::size_t pass = 0; pass < passes_.size(); ++pass) {
              for (int a = 0; a < 3; ++a)
                works[pass] *= work(pass, a, a == axis ? size.warpgroups : 1, box[a], tile[a]);
            }
            least = std::min(least, seconds_of(model, works, tile));
          }
        }
      }
    }
    return least;
  }

  double seconds(const Tiling& tiling) {
    const std::int64_t warpgroups = tiling.block[0] * tiling.block[1] * tiling.block[2];
    const auto size = std::ranges::find(sizes_, warpgroups, &KernelClass::warpgroups);
    std::array<Work, 2> works{};
    for (std::size_t pass = 0; pass < passes_.size(); ++pass) {
      for (int a = 0; a < 3; ++a) {
        works[pass] *= work(pass, a, tiling.block[a], tiling.query_tile[a], tiling.key_tile[a]);
      }
    }
    return seconds_of(CostModel(grid_, method_, *size), works, tiling.key_tile);
  }

 private:
  [[nodiscard]] std::vector<PerAxis<std::int64_t>> boxes(std::int64_t most) const {
    std::vector<PerAxis<std::int64_t>> boxes;
    for (std::int64_t x = 1; x <= std::min(most, members_[0]); ++x) {
      for (std::int64_t y = 1; y <= std::min(most / x, members_[1]); ++y) {
        for (std::int64_t z = 1; z <= std::min(most / (x * y), members_[2]); ++z) boxes.push_back({x, y, z});
      }
    }
    return boxes;
  }

  double seconds_of(const CostModel& model, const std::array<Work, 2>& works, const PerAxis<std::int64_t>& tile) const {
    std::array<double, 2> idling{};
    for (std::size_t pass = 0; pass < passes_.size(); ++pass) {
      const Work& work = works[pass];
      idling[pass] = model.idling_of_items(pass, work.items, work.longest, work.loaded / work.items);
    }
    return model.seconds(std::span(works).first(passes_.size()), tile, idling, false);
  }

  const Work& work(std::size_t pass, int axis, std::int64_t boxes, std::int64_t box, std::int64_t tile) {
    auto& of_box = works_[((pass * 3 + axis) * 2 + (boxes - 1)) * 65 + box];
    if (of_box.empty()) {
      Spans spans(grid_, passes_[pass], kAll);
      const Spans::Boxes all = spans.add(axis, box, boxes);
      for (std::int64_t t = 1; t <= 128; ++t) of_box.push_back(spans.work(all, t));
    }
    return of_box[tile - 1];
  }

  const Problem& grid_;
  Method method_;
  std::span<const KernelClass> classes_;
  std::span<const RowKind> passes_;
  PerAxis<std::int64_t> members_{};
  std::vector<KernelClass> sizes_;
  std::array<std::vector<Work>, std::size_t{2} * 3 * 2 * 65> works_;
};

/// The work along one axis, pair by pair.
Work count_work(const Problem& grid, int axis, RowKind rows, std::int64_t box, std::int64_t boxes, std::int64_t tile) {
  Work sum{0, 0, 0, 0, 0};
  for (std::int64_t group = 0; group < grid.dilation[axis]; ++group) {
    const AxisWindow window = axis_window(grid, axis, group);
    const auto sees = [&](std::int64_t of_box, std::int64_t of_tile) {
      return rows == RowKind::queries ? window.keys_of(of_box).contains(of_tile)
                                      : window.keys_of(of_tile).contains(of_box);
    };
    const auto seen_by = [&](Interval tokens) {
      Interval seen{window.members, 0};
      for (std::int64_t t = tokens.begin; t < std::min(tokens.end, window.members); ++t) {
        for (std::int64_t other = 0; other < window.members; ++other) {
          if (sees(t, other)) seen = {std::min(seen.begin, other), std::max(seen.end, other + 1)};
        }
      }
      return seen;
    };
    for (std::int64_t block = 0; block < window.members; block += box * boxes) {
      sum.items += 1;
      const Interval halo = seen_by({block, block + box * boxes});
      const auto loaded = static_cast<double>(ceil_div(halo.size(), tile));
      sum.loaded += loaded;
      sum.longest = std::max(sum.longest, loaded);
      for (std::int64_t b = block; b < std::min(block + box * boxes, window.members); b += box) {
        const Interval seen = seen_by({b, b + box});
        for (std::int64_t t = halo.begin; t < halo.end; t += tile) {
          if (seen.begin >= t + tile || seen.end <= t) continue;
          sum.visited += 1;
          bool all = true;
          for (std::int64_t i = b; i < std::min(b + box, window.members); ++i) {
            for (std::int64_t other = t; other < t + tile; ++other)
              all = all && other < window.members && sees(i, other);
          }
          sum.unmasked += all ? 1 : 0;
        }
      }
    }
  }
  return sum;
}

void expect_refusal(const Status& status, const std::string& part) {
  EXPECT_FALSE(status.ok()) << "not refused: " << part;
  EXPECT_NE(status.reason().find(part), std::string::npos) << status.reason();
}

TEST(Sm90CostModel, CountsTheWorkAlongAnAxis) {
  check::Random random(5);
  for (int n = 0; n < 400; ++n) {
    const Problem problem = random_problem(random);
    const std::int64_t box = random.between(1, 12);
    const std::int64_t boxes = random.between(1, 2);
    const std::int64_t tile = random.between(1, 16);
    for (const RowKind rows : {RowKind::queries, RowKind::keys}) {
      Spans spans(problem, rows, kAll);
      const Work work = spans.work(spans.add(2, box, boxes), tile);
      const Work counted = count_work(problem, 2, rows, box, boxes, tile);
      const std::string where = to_string(problem) + " box " + std::to_string(box) + " x " + std::to_string(boxes) +
                                " tile " + std::to_string(tile) + (rows == RowKind::keys ? " over keys" : "");
      EXPECT_EQ(work.items, counted.items) << where;
      EXPECT_EQ(work.loaded, counted.loaded) << where;
      EXPECT_EQ(work.visited, counted.visited) << where;
      EXPECT_EQ(work.unmasked, counted.unmasked) << where;
      EXPECT_EQ(work.longest, counted.longest) << where;
    }
  }
}

TEST(Sm90Planner, ChoosesTilesThatTheKernelAccepts) {
  check::Random random(3);
  for (int n = 0; n < 300; ++n) {
    Problem any = random_problem(random);
    any.dim = random.between(1, 256);
    any.batch = random.between(0, 2);
    for (const Planner& planner : kPlanners) {
      const Problem problem = fitted(any, planner.method);
      const Tiling tiling = planner.tiling(problem);
      EXPECT_EQ(tiling, planner.tiling(problem)) << to_string(problem);
      EXPECT_TRUE(planner.accepts(problem, tiling).ok()) << planner.accepts(problem, tiling).reason();
      const Cost cost = planner.cost(problem, tiling);
      EXPECT_GE(cost.visited_multiply_adds, cost.needed_multiply_adds) << to_string(problem);
      EXPECT_GE(cost.visited_multiply_adds, cost.masked_multiply_adds) << to_string(problem);
      EXPECT_GT(cost.seconds, 0);
    }
  }
}

TEST(Sm90Planner, ListsTilingsFromTheBestOn) {
  for (const Planner& planner : kPlanners) {
    const Problem p = fitted(headline_3d(), planner.method);
    const auto seconds = [&](const Tiling& tiling) { return planner.cost(p, tiling).seconds; };
    const std::vector<Tiling> all = planner.tilings(p, std::numeric_limits<std::size_t>::max());
    EXPECT_GT(all.size(), 10000);
    EXPECT_LT(seconds(all.front()), seconds(all[100]));
    EXPECT_LT(seconds(all[100]), seconds(all.back()));
    EXPECT_LE(seconds(planner.tiling(p)), 1.01 * seconds(all.front()));  // few boxes are looked at
    EXPECT_NE(std::find(all.begin(), all.begin() + 8, planner.tiling(p)), all.begin() + 8);
    for (const Tiling& tiling : all) ASSERT_TRUE(planner.accepts(p, tiling).ok());
    const std::vector<Tiling> some = planner.tilings(p, 100);
    ASSERT_EQ(some.size(), 100);
    EXPECT_DOUBLE_EQ(seconds(some.front()), seconds(all.front()));
  }
}

TEST(Sm90Planner, ChoosesAboutTheBestTilesOfItsModel) {
  for (const Planner& planner : kPlanners) {
    const auto ratio = [&](const Problem& any) {
      const Problem problem = fitted(any, planner.method);
      Model model(problem, planner.method);
      return model.seconds(best_tilings(problem, planner.method, 1).front().tiling) / model.least();
    };
    for (const Problem& problem : headline_suite())
      EXPECT_LE(ratio(problem), 1.02) << planner.name << " " << to_string(problem);

    check::Random random(11);
    std::vector<double> ratios(200);
    for (double& r : ratios) r = ratio(large_problem(random));
    std::ranges::sort(ratios);
    const std::string name = planner.name;
    RecordProperty(name + "_median", std::to_string(ratios[100]));
    RecordProperty(name + "_p99", std::to_string(ratios[197]));
    RecordProperty(name + "_worst", std::to_string(ratios[199]));
    EXPECT_LE(ratios[197], 1.03) << "worst: " << ratios[199];
    EXPECT_LE(ratios[199], 1.1);
  }
}

TEST(Sm90Planner, PrefersTilingsThatComeToBlocksEvenly) {
  // Few items, and keys in the middle are seen by the most queries.
  Problem p;
  p.rank = 1;
  p.layout = {27048, 1, 1};
  p.window = {11161, 1, 1};
  p.dim = p.dim_v = 128;
  p.dtype = DType::fp16;
  p = padded_to_rank_3(p);
  const auto seconds = [&](const Tiling& tiling) { return backward_one_pass_cost(p, tiling).seconds; };
  std::vector<Tiling> searched;
  for (const Estimate& estimate : best_tilings(p, Method::backward_one_pass, kFewTilings)) {
    searched.push_back(estimate.tiling);
  }
  EXPECT_FALSE(std::ranges::is_sorted(searched, {}, seconds));
  const std::vector<Tiling> listed = backward_one_pass_tilings(p, kFewTilings);
  EXPECT_TRUE(std::ranges::is_sorted(listed, {}, seconds));
  EXPECT_TRUE(std::ranges::is_permutation(listed, searched));
  EXPECT_LE(seconds(backward_one_pass_tiling(p)), seconds(searched.front()));
}

TEST(Sm90Planner, LooksBeyondTilingsThatAreAlike) {
  // In the tilings that would be best if items were alike all of them begin at once, and the longest takes twice the
  // mean.
  Problem p;
  p.rank = 1;
  p.layout = {4708, 1, 1};
  p.window = {4504, 1, 1};
  p.causal = {true, false, false};
  p.heads = p.heads_kv = 4;
  p.dim = p.dim_v = 64;
  p.dtype = DType::fp16;
  p = padded_to_rank_3(p);
  EXPECT_LT(forward_cost(p, forward_tiling(p)).seconds, 65e-6);  // 99 us once
}

TEST(Sm90Planner, ChoosesInMicroseconds) {
  // A release build takes 30 us where three axes have many shapes, and 40 us backward; sanitizers cost tenfold.
  for (const Planner& planner : kPlanners) {
    const Problem problem = fitted(headline_3d(), planner.method);
    double least = 1;
    for (int n = 0; n < 20; ++n) {
      const auto start = std::chrono::steady_clock::now();
      const Tiling tiling = planner.tiling(problem);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      EXPECT_GT(tiling.rows, 0);
      least = std::min(least, seconds.count());
    }
    RecordProperty(std::string(planner.name) + "_microseconds", std::to_string(1e6 * least));
    EXPECT_LT(least, 5e-3);
  }
}

TEST(Sm90Planner, SaysWhichProblemsItRefuses) {
  for (const Planner& planner : kPlanners) {
    const Problem taken = fitted(headline_3d(), planner.method);
    Problem p = taken;
    p.dtype = DType::fp32;
    expect_refusal(planner.supports(p), "dtype = fp32; allowed: fp16, bf16");
    p = taken;
    p.dim_v = 264;
    const bool pairs = planner.method == Method::forward_pairs;
    expect_refusal(planner.supports(p),
                   pairs ? "dim = 32, dim_v = 264; allowed: 32" : "dim = 128, dim_v = 264; allowed: up to ");
    p = taken;
    p.layout[2] = std::int64_t{1} << 30;
    expect_refusal(planner.supports(p), "an axis of more than 536870911 tokens");
    p = taken;
    p.batch = std::int64_t{1} << 20;
    expect_refusal(planner.supports(p), "too large for 32-bit work items");
    if (devices().empty()) expect_refusal(planner.supports(taken), "allowed: 9.x (Hopper)");
  }
}

TEST(Sm90Planner, RefusesMoreWorkItemsThanAnIntCounts) {
  constexpr auto kTooMany = " work items; allowed: up to 1073741823";
  for (const Planner& planner : kPlanners) {
    const std::int64_t joined = joined_heads(planner.method);
    Problem p = fitted(padded_to_rank_3(Problem{}), planner.method);
    p.dtype = DType::fp16;
    p.dim = p.dim_v = 32;
    // One token of each head and batch entry.
    p.batch = std::int64_t{1} << 16;
    p.heads = p.heads_kv = joined << 14;
    expect_refusal(planner.supports(p), "1073741824" + std::string(kTooMany));
    p.heads = p.heads_kv = 3 * joined << 13;
    expect_refusal(planner.supports(p), "1610612736" + std::string(kTooMany));
    p.heads_kv = joined;
    if (planner.method != Method::forward_pairs) expect_refusal(planner.supports(p), kTooMany);
    p.heads = p.heads_kv = joined * ((std::int64_t{1} << 14) - 1);
    const Tiling tiling = planner.tiling(p);
    EXPECT_TRUE(planner.accepts(p, tiling).ok()) << planner.accepts(p, tiling).reason();
    EXPECT_TRUE(planner.supports(p).ok() || planner.supports(p).reason().find("Hopper") != std::string::npos)
        << planner.supports(p).reason();

    // Dilation groups of one or two tokens.
    p.batch = 1;
    p.heads = p.heads_kv = 8 * joined;
    p.layout[2] = (std::int64_t{1} << 27) + 1;
    p.dilation[2] = std::int64_t{1} << 27;
    expect_refusal(planner.supports(p), "1073741824" + std::string(kTooMany));
    // As many tokens, but many in a tile.
    p.dilation[2] = 1;
    p.window[2] = 64;
    EXPECT_TRUE(planner.supports(p).ok() || planner.supports(p).reason().find("Hopper") != std::string::npos)
        << planner.supports(p).reason();
  }
}

TEST(Sm90Planner, RefusesTilesThatReachBeyondAnInt) {
  for (const Planner& planner : kPlanners) {
    Problem p = fitted(padded_to_rank_3(Problem{}), planner.method);
    p.dtype = DType::fp16;
    p.dim = p.dim_v = 64;
    if (planner.method == Method::forward_pairs) p.dim = p.dim_v = 32;
    p.layout[2] = (std::int64_t{1} << 26) + 1;
    p.dilation[2] = std::int64_t{1} << 26;
    const Tiling planned = planner.tiling(p);
    EXPECT_TRUE(planner.accepts(p, planned).ok()) << planner.accepts(p, planned).reason();
    Tiling tiling = planned;
    tiling.query_tile[2] = 24;  // 3 x 2^29, and the longest axis: less than 2^31
    EXPECT_TRUE(planner.accepts(p, tiling).ok()) << planner.accepts(p, tiling).reason();
    tiling.query_tile[2] = 25;
    expect_refusal(planner.accepts(p, tiling), "tiling.query_tile = 1x1x25 with dilation = 1x1x67108864; allowed: ");
    tiling = planned;
    tiling.key_tile[2] = 24;
    EXPECT_TRUE(planner.accepts(p, tiling).ok()) << planner.accepts(p, tiling).reason();
    tiling.key_tile[2] = 25;
    expect_refusal(planner.accepts(p, tiling), "tiling.key_tile = 1x1x25 with dilation = 1x1x67108864; allowed: ");
  }
}

TEST(Sm90Planner, SaysWhichTilesItRefuses) {
  for (const Planner& planner : kPlanners) {
    const Problem p = fitted(headline_3d(), planner.method);
    const Tiling chosen = planner.tiling(p);
    Tiling tiling = chosen;
    tiling.block = {1, 1, 1};  // of one warpgroup: for head dims up to 64
    if (p.dim > 64) expect_refusal(planner.accepts(p, tiling), "tiling.block = 1x1x1");
    tiling.block = {2, 2, 1};
    expect_refusal(planner.accepts(p, tiling), "tiling.block = 2x2x1");
    tiling = chosen;
    tiling.rows = 128;
    expect_refusal(planner.accepts(p, tiling), "tiling.rows = 128");
    tiling = chosen;
    tiling.columns = 192;
    expect_refusal(planner.accepts(p, tiling), "tiling.columns = 192");
  }
}

TEST(Sm90Planner, PairsOfHeadsShareItems) {
  Problem p = headline_3d();
  p.dim = p.dim_v = 32;
  for (const Tiling& tiling : forward_pairs_tilings(p, 64)) {
    ASSERT_TRUE(forward_accepts(p, tiling).ok()) << forward_accepts(p, tiling).reason();
    const Cost of_pairs = forward_pairs_cost(p, tiling);
    const Cost of_heads = forward_cost(p, tiling);
    EXPECT_EQ(of_pairs.work_items, of_heads.work_items / 2);
    EXPECT_EQ(of_pairs.visited_multiply_adds, of_heads.visited_multiply_adds);
    EXPECT_EQ(of_pairs.bytes, of_heads.bytes);
  }
  p.heads_kv = 12;
  expect_refusal(forward_pairs_supports(p), "heads = 24, heads_kv = 12; allowed: the same even number");
  p.heads = p.heads_kv = 3;
  expect_refusal(forward_pairs_supports(p), "heads = 3, heads_kv = 3; allowed: the same even number");
}

TEST(Sm90Planner, TakesPairsOfHeadsWhereItemsAreShort) {
  const std::vector<Problem> suite = headline_suite();
  for (const std::size_t n : {4, 5}) {
    const Problem& p = suite[n];
    EXPECT_LT(forward_pairs_cost(p, forward_pairs_tiling(p)).seconds, forward_cost(p, forward_tiling(p)).seconds);
  }
}

// Boxes of 63 are estimated lower by 0.4%, but there is an odd number of tiles of two of them.
TEST(Sm90Planner, HasBlocksShareTilesWhereAllIsSeen) {
  for (const std::int64_t dim : {64, 96, 128}) {
    for (const std::int64_t tokens : {4096, 16384}) {
      Problem p = headline_3d();
      p.layout = p.window = {1, 1, tokens};
      p.batch = 65536 / tokens;
      p.heads = p.heads_kv = 8;
      p.dim = p.dim_v = dim;
      const Tiling tiling = forward_tiling(p);
      TiledGrid grid(p, tiling);
      grid.share_columns();
      EXPECT_EQ(grid.sharers, 2) << to_string(p) << ": " << tiling.query_tile[2];
      EXPECT_EQ(forward_copies(p, tiling), "by the copy engine, each key tile for two blocks");
      const double shared = forward_cost(p, tiling).seconds;
      p.alignment = 8;  // what threads copy is not shared
      EXPECT_PRED_FORMAT2(testing::IsNotSubstring, "two blocks", forward_copies(p, tiling));
      EXPECT_LT(shared, forward_cost(p, tiling).seconds) << to_string(p);
    }
  }
}

// As measured: docs/kernels/fused_sm90_backward.md. For the strided 3-D problem the estimates are 1% apart, the times
// 17%.
TEST(Sm90Planner, TakesTwoPassesBackwardWhereTheyAreFaster) {
  constexpr std::array kOnePass{true, true, true, false, false, false, true, true};
  const std::vector<Problem> suite = headline_suite();
  ASSERT_EQ(suite.size(), kOnePass.size());
  for (std::size_t n = 0; n < suite.size(); ++n) {
    const Problem& p = suite[n];
    const double two_passes = backward_cost(p, backward_tiling(p)).seconds;
    const double one_pass = backward_one_pass_cost(p, backward_one_pass_tiling(p)).seconds;
    EXPECT_EQ(one_pass < two_passes, kOnePass[n]) << to_string(p) << ": " << one_pass << ", " << two_passes;
  }
}

TEST(Sm90Planner, CountsTheProductsOfBothPasses) {
  // Windows that do not overlap: each box sees one tile of 64 in either pass, and nothing is wasted.
  Problem p;
  p.rank = 1;
  p.layout = {1024, 1, 1};
  p.window = p.stride = {64, 1, 1};
  p.dim = 64;
  p.dim_v = 32;
  p.dtype = DType::fp16;
  p = padded_to_rank_3(p);
  const Tiling tiling{.query_tile = {1, 1, 64}, .key_tile = {1, 1, 64}, .block = {1, 1, 1}, .rows = 64, .columns = 64};
  ASSERT_TRUE(backward_accepts(p, tiling).ok()) << backward_accepts(p, tiling).reason();
  const Cost cost = backward_cost(p, tiling);
  EXPECT_EQ(cost.needed_multiply_adds, 1024.0 * 64 * (3 * 64 + 2 * 32));
  EXPECT_EQ(cost.visited_multiply_adds, 1024.0 * 64 * (4 * 64 + 3 * 32));  // S and dP twice
  EXPECT_EQ(cost.masked_multiply_adds, 0);
  EXPECT_EQ(cost.work_items, 2 * 16);

  p.extra_kv = 5;
  const double whole_tile = 1024.0 * 64 * (2 * 64 + 32);  // in the pass over queries
  const double exact = 1024.0 * 5 * (2 * 64 + 2 * 32);
  EXPECT_EQ(backward_cost(p, tiling).visited_multiply_adds, cost.visited_multiply_adds + whole_tile + exact);

  // One pass for dK and another for dV.
  p.extra_kv = 0;
  p.dim = p.dim_v = 192;
  Tiling of_two = tiling;
  of_two.block = {1, 1, 2};
  ASSERT_TRUE(backward_accepts(p, of_two).ok()) << backward_accepts(p, of_two).reason();
  EXPECT_EQ(backward_cost(p, of_two).visited_multiply_adds, 1024.0 * 64 * 8 * 192);
}

TEST(Sm90Planner, CountsTheProductsOfOnePass) {
  Problem p;
  p.rank = 1;
  p.layout = {1024, 1, 1};
  p.window = p.stride = {128, 1, 1};
  p.dim = 64;
  p.dim_v = 32;
  p.dtype = DType::fp16;
  p = padded_to_rank_3(p);
  const Tiling tiling{
      .query_tile = {1, 1, 64}, .key_tile = {1, 1, 128}, .block = {1, 1, 2}, .rows = 64, .columns = 128};
  ASSERT_TRUE(backward_one_pass_accepts(p, tiling).ok()) << backward_one_pass_accepts(p, tiling).reason();
  const Cost cost = backward_one_pass_cost(p, tiling);
  EXPECT_EQ(cost.visited_multiply_adds, cost.needed_multiply_adds);
  EXPECT_EQ(cost.masked_multiply_adds, 0);
  EXPECT_EQ(cost.work_items, 8);

  p.extra_kv = 5;
  expect_refusal(backward_one_pass_supports(p), "extra_kv = 5; allowed: 0");
  p.extra_kv = 0;
  p.scale = 0;
  expect_refusal(backward_one_pass_supports(p), "scale = 0; allowed: magnitudes from 1e-30");
}

TEST(Sm90Planner, HeadsThatShareKeysShareItems) {
  Problem p = headline_3d();
  const Tiling tiling = backward_tiling(p);
  const double items = backward_cost(p, tiling).work_items / 2;
  p.heads_kv = 6;
  EXPECT_EQ(backward_cost(p, tiling).work_items, items + items / 4);
}

TEST(Sm90Planner, IsAskedOnce) {
  const KernelRow row{.name = "of_a_test",
                      .backend = "test",
                      .operation = Operation::forward,
                      .device = DeviceType::cuda,
                      .supports = forward_supports,
                      .tiling = forward_tiling,
                      .accepts = forward_accepts,
                      .cost = forward_cost,
                      .workspace = nullptr};
  PlanCache cache(16);
  const Choice first = cache.choice(row, headline_3d());
  EXPECT_EQ(first.tiling, forward_tiling(headline_3d()));
  // A release build takes 0.1 us.
  double least = 1;
  for (int n = 0; n < 20; ++n) {
    const auto start = std::chrono::steady_clock::now();
    const Choice again = cache.choice(row, headline_3d());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(again.tiling, first.tiling);
    EXPECT_EQ(again.cost.seconds, first.cost.seconds);
    least = std::min(least, seconds.count());
  }
  RecordProperty("microseconds", std::to_string(1e6 * least));
  EXPECT_LT(least, 50e-6);
}

}  // namespace
}  // namespace vicinal::cuda::sm90
