// Boxes and counts of core/tiling.h against brute force over every query and key of random small problems.

#include "core/tiling.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "check/random.h"
#include "core/neighbors.h"

namespace vicinal {
namespace {

constexpr int kProblems = 120;

/// A problem of rank 3 (after padding) with few tokens.
Problem small_problem(check::Random& random) {
  Problem p;
  p.rank = static_cast<int>(random.between(1, 3));
  const std::int64_t longest = p.rank == 1 ? 40 : p.rank == 2 ? 12 : 7;
  for (int a = 0; a < p.rank; ++a) {
    p.layout[a] = random.between(1, longest);
    p.dilation[a] = random.chance(0.6) ? 1 : random.between(1, std::min<std::int64_t>(4, p.layout[a]));
    p.window[a] = random.between(1, p.layout[a] / p.dilation[a]);
    p.stride[a] = random.between(1, p.window[a]);
    p.causal[a] = random.chance(0.4);
  }
  p.extra_kv = random.chance(0.5) ? 0 : random.between(1, 20);
  EXPECT_TRUE(validate(p).ok()) << validate(p).reason();
  return padded_to_rank_3(p);
}

Box random_box(check::Random& random, const PhaseGrid& grid) {
  Box box;
  for (int a = 0; a < 3; ++a) {
    const std::int64_t begin = random.between(0, grid.axes[a].members - 1);
    box.axes[a] = {begin, random.between(begin + 1, std::min(begin + 5, grid.axes[a].members))};
  }
  return box;
}

template <class Visit>
void for_each_position(const Box& box, Visit visit) {
  for (std::int64_t i = box.axes[0].begin; i < box.axes[0].end; ++i) {
    for (std::int64_t j = box.axes[1].begin; j < box.axes[1].end; ++j) {
      for (std::int64_t k = box.axes[2].begin; k < box.axes[2].end; ++k) visit(Token{i, j, k});
    }
  }
}

Box all_of(const PhaseGrid& grid) {
  return {{Interval{0, grid.axes[0].members}, {0, grid.axes[1].members}, {0, grid.axes[2].members}}};
}

template <class Test>
void on_random_problems(Test test) {
  check::Random random(5);
  for (int i = 0; i < kProblems && !testing::Test::HasFailure(); ++i) {
    const Problem p = small_problem(random);
    SCOPED_TRACE(to_string(p));
    test(p, random);
  }
}

TEST(Tiling, PhasesHoldEveryTokenOnce) {
  on_random_problems([](const Problem& p, check::Random&) {
    std::set<Token> seen;
    for (std::int64_t phase = 0; phase < phase_count(p); ++phase) {
      const auto groups = phase_groups(p, phase);
      for_each_position(all_of(phase_grid(p, phase)), [&](const Token& at) {
        Token token{};
        for (int a = 0; a < 3; ++a) token[a] = groups[a] + p.dilation[a] * at[a];
        EXPECT_TRUE(seen.insert(token).second);
      });
    }
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), p.tokens());
  });
}

TEST(Tiling, HaloIsTheSmallestBoxOfTheNeededKeys) {
  on_random_problems([](const Problem& p, check::Random& random) {
    const PhaseGrid grid = phase_grid(p, random.between(0, phase_count(p) - 1));
    const Box queries = random_box(random, grid);
    Box needed;
    bool first = true;
    for_each_position(all_of(grid), [&](const Token& key) {
      bool attended = false;
      for_each_position(queries, [&](const Token& query) { attended = attended || grid.attends(query, key); });
      if (!attended) return;
      for (int a = 0; a < 3; ++a) {
        needed.axes[a].begin = first ? key[a] : std::min(needed.axes[a].begin, key[a]);
        needed.axes[a].end = first ? key[a] + 1 : std::max(needed.axes[a].end, key[a] + 1);
      }
      first = false;
    });
    EXPECT_EQ(grid.halo(queries), needed);
  });
}

TEST(Tiling, ClassifiesPairsOfBoxes) {
  on_random_problems([](const Problem& p, check::Random& random) {
    const PhaseGrid grid = phase_grid(p, random.between(0, phase_count(p) - 1));
    const Box queries = random_box(random, grid);
    const Box keys = random_box(random, grid);
    std::int64_t pairs = 0;
    for_each_position(queries, [&](const Token& query) {
      for_each_position(keys, [&](const Token& key) { pairs += grid.attends(query, key); });
    });
    const TileKind kind = grid.classify(queries, keys);
    EXPECT_EQ(kind == TileKind::inside, pairs == queries.volume() * keys.volume());
    EXPECT_EQ(kind == TileKind::outside, pairs == 0);
  });
}

TEST(Tiling, CountsNeededPairs) {
  on_random_problems([](const Problem& p, check::Random&) {
    std::int64_t pairs = p.tokens() * p.extra_kv;
    for (std::int64_t i = 0; i < p.tokens(); ++i) {
      for_each_neighbor(p, token_at(p, i), &AxisWindow::keys_of, [&](const Token&) { ++pairs; });
    }
    EXPECT_EQ(needed_pairs(p), static_cast<double>(pairs));
  });
}

TEST(Tiling, CountsVisitedPairs) {
  on_random_problems([](const Problem& p, check::Random& random) {
    Tiling tiling;
    for (int a = 0; a < 3; ++a) {
      tiling.query_tile[a] = random.between(1, 5);
      tiling.key_tile[a] = random.between(1, 5);
    }
    tiling.rows = 130;
    tiling.columns = 128;
    std::int64_t tile_pairs = 0;
    for (std::int64_t phase = 0; phase < phase_count(p); ++phase) {
      const PhaseGrid grid = phase_grid(p, phase);
      const auto extents = all_of(grid).axes;
      std::array<std::int64_t, 3> tiles{};
      for (int a = 0; a < 3; ++a) tiles[a] = ceil_div(extents[a].end, tiling.query_tile[a]);
      for_each_position({{Interval{0, tiles[0]}, {0, tiles[1]}, {0, tiles[2]}}}, [&](const Token& tile) {
        Box queries;
        for (int a = 0; a < 3; ++a) {
          queries.axes[a].begin = tile[a] * tiling.query_tile[a];
          queries.axes[a].end = std::min(queries.axes[a].begin + tiling.query_tile[a], extents[a].end);
        }
        const Box halo = grid.halo(queries);
        std::int64_t key_tiles = 1;
        for (int a = 0; a < 3; ++a) key_tiles *= ceil_div(halo.axes[a].size(), tiling.key_tile[a]);
        tile_pairs += key_tiles + ceil_div(p.extra_kv, tiling.columns);
      });
    }
    EXPECT_EQ(visited_pairs(p, tiling), static_cast<double>(tile_pairs * tiling.rows * tiling.columns));
  });
}

TEST(Tiling, OnePairAtATimeVisitsWhatIsNeeded) {
  on_random_problems([](const Problem& p, check::Random&) { EXPECT_EQ(visited_pairs(p, Tiling{}), needed_pairs(p)); });
}

}  // namespace
}  // namespace vicinal
