// The tiles and masks of the Hopper kernels, by the functions that the kernels call: on random small problems and tile
// shapes every query attends to exactly its keys, each once, and every key meets exactly the queries that attend to it.

#include "cuda/fused_sm90/tiles.h"

#include <array>
#include <map>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "check/random.h"
#include "core/tiling.h"
#include "cuda/fused_sm90/classes.h"
#include "sm90_problems.h"

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kProblems = 400;

/// A box of at most `most` tokens, mostly not a power of two.
PerAxis<std::int64_t> random_box(check::Random& random, std::int64_t most) {
  PerAxis<std::int64_t> box{};
  const auto first = static_cast<int>(random.between(0, 2));
  for (int i = 0; i < 3; ++i) {
    std::int64_t& extent = box[(first + i) % 3];
    extent = random.between(1, random.chance(0.5) ? most : std::min<std::int64_t>(most, 9));
    most /= extent;
  }
  return box;
}

template <int kColumns>
Tiling random_tiling(check::Random& random) {
  Tiling tiling{.query_tile = random_box(random, kWarpgroupRows),
                .key_tile = random_box(random, kColumns),
                .rows = kWarpgroupRows,
                .columns = kColumns};
  tiling.block[random.between(0, 2)] = random.between(1, 3);
  return tiling;
}

template <int kColumns>
ColumnMasks<kColumns> masks_of(const TileShape& keys) {
  using Masks = ColumnMasks<kColumns>;
  Masks masks{};
  for (int lane = 0; lane < Masks::kLanes; ++lane) {
    PackedPosition positions[Masks::kBits];
    for (int bit = 0; bit < Masks::kBits; ++bit) positions[bit] = {keys, Masks::column(lane, bit)};
    for (int entry = 0; entry < Masks::kPrefixes; ++entry) {
      masks.prefix[entry][lane] = Masks::make(keys, positions, entry);
    }
  }
  return masks;
}

using Position = std::array<std::int64_t, 3>;

/// Plays one warpgroup's part of one work item and notes what each row meets.
template <int kColumns, RowKind kRows>
class Player {
 public:
  explicit Player(const TiledGrid& grid) : grid_(grid), masks_(masks_of<kColumns>(grid.columns)) {}

  void play(const WorkItem& item, int warpgroup, int sharer) {
    AxisShare axes[3];
    for (int a = 0; a < 3; ++a) axes[a] = axis_share<kRows>(grid_, a, item.group[a], item.origin[a], warpgroup, sharer);
    const Share share(grid_, {axes[0].column_tiles, axes[1].column_tiles, axes[2].column_tiles},
                      axes[grid_.split_axis].needed);
    if (share.total == 0 || share.idle()) return;
    ASSERT_GE(share.skipped_before, 0);
    ASSERT_GE(share.skipped_after, 0);
    ASSERT_EQ(share.skipped_before + share.attended + share.skipped_after + share.extra, share.total);

    for (int number = 0; number < kWarpgroupRows; ++number) {
      const PackedPosition at(grid_.rows, number);
      if (!at.holds_token()) continue;
      Position row{};
      bool exists = true;
      Range seen[3];
      for (int a = 0; a < 3; ++a) {
        row[a] = axes[a].rows.begin + at.along(a);
        exists = exists && row[a] < axes[a].rows.end;
        seen[a] =
            columns_of_row<kRows>(grid_.axes[a].in_group(item.group[a]), axes[a].rows, axes[a].halo_begin, at.along(a));
      }
      if (!exists) continue;
      const int fast = share.fast_axis(grid_);
      ColumnTileCursor cursor{};
      for (int t = 0; t < share.tiles(); ++t, cursor.next(share.count[0], share.count[1])) {
        if (t < share.skipped_before || t >= share.skipped_before + share.attended) continue;
        TileNote note{};
        int masked = 0;
        bool begun = true;  // what some row sees may begin in the tile
        for (int a = 0; a < 3; ++a) {
          const int tile = cursor.along(grid_, a);
          begun = begun && tile <= axes[a].last_begun;
          note.begin[a] = tile * grid_.axes[a].column_tile;
          masked |= static_cast<int>(!axes[a].unmasked.contains(tile)) << a;
        }
        note.what = TileNote::make(grid_, share, t, cursor.along_loop(share.fast_loop()), kColumns, masked);
        see(note, fast, t == share.skipped_before, seen, [&](int c) {
          EXPECT_TRUE(begun || met_.contains(row));
          Position column{};
          for (int a = 0; a < 3; ++a) {
            column[a] =
                axes[a].halo_begin + cursor.along(grid_, a) * grid_.axes[a].column_tile + grid_.columns.position(a, c);
          }
          ++met_[row][column];
        });
      }
      for (int t = 0; t < share.extra; ++t) {
        TileNote note{};
        note.what = TileNote::make(grid_, share, share.tiles() + t, cursor.along_loop(share.fast_loop()), kColumns, 0);
        see(note, fast, t == 0, seen, [&](int c) { ++met_[row][{-1, -1, t * grid_.columns.volume + c}]; });
      }
      ++answered_[row];
    }
  }

  void expect_neighbors(const PhaseGrid& phase, std::int64_t extra_tokens) const {
    std::int64_t rows = 1;
    for (const AxisWindow& axis : phase.axes) rows *= axis.members;
    EXPECT_EQ(std::ssize(answered_), rows);
    EXPECT_EQ(std::ssize(met_), rows);
    for (const auto& [row, times] : answered_) EXPECT_EQ(times, 1);
    for (const auto& [row, columns] : met_) {
      std::int64_t count = 1;
      for (int a = 0; a < 3; ++a) {
        const AxisWindow& axis = phase.axes[a];
        count *= (kRows == RowKind::queries ? axis.keys_of(row[a]) : axis.queries_of(row[a])).size();
      }
      EXPECT_EQ(std::ssize(columns), extra_tokens + count);
      for (const auto& [column, times] : columns) {
        EXPECT_EQ(times, 1);
        if (column[0] < 0) {
          EXPECT_LT(column[2], extra_tokens);
        } else {
          EXPECT_TRUE(kRows == RowKind::queries ? phase.attends(row, column) : phase.attends(column, row));
        }
      }
    }
  }

 private:
  template <class Seen>
  void see(const TileNote& note, int fast, bool is_first, const Range (&seen_by_row)[3], Seen seen) {
    for (int lane = 0; lane < 4; ++lane) {
      std::uint32_t visible[2] = {~0U, ~0U};
      const bool begins = is_first || (note.what & TileNote::kBegins) != 0;
      if (TileNote::touched(note.what)) {
        masks_.visible(
            grid_, note, fast, [&](int, int axis) { return seen_by_row[axis]; }, lane, begins, kept_[lane], visible);
      } else if (begins) {  // as Consumer::find_visible
        kept_[lane][0] = kept_[lane][1] = ~0U;
      }
      for (int bit = 0; bit < ColumnMasks<kColumns>::kBits; ++bit) {
        if ((visible[1] >> bit & 1) != 0) seen(ColumnMasks<kColumns>::column(lane, bit));
      }
    }
  }

  const TiledGrid& grid_;
  ColumnMasks<kColumns> masks_;
  std::uint32_t kept_[4][2] = {};  // of each lane, from one row and item to the next
  std::map<Position, std::map<Position, int>> met_;
  std::map<Position, int> answered_;
};

template <int kColumns, RowKind kRows>
void play(const Problem& problem, const Tiling& tiling, const TiledGrid& grid) {
  SCOPED_TRACE(fmt::format("{} query tile {} key tile {}", to_string(problem), fmt::join(tiling.query_tile, "x"),
                           fmt::join(tiling.key_tile, "x")));
  std::map<std::array<int, 3>, Player<kColumns, kRows>> players;
  for (int i = 0; i < grid.items; ++i) {
    const WorkItem item(grid, i);
    ASSERT_LT(item.batch, problem.batch);
    if (item.head != (kRows == RowKind::queries ? problem.heads : problem.heads_kv) - 1) continue;
    auto& player = players.try_emplace({item.group[0], item.group[1], item.group[2]}, grid).first->second;
    for (int sharer = 0; sharer < grid.sharers; ++sharer) {
      for (int w = 0; w < grid.warpgroups; ++w) player.play(item, w, sharer);
    }
  }
  EXPECT_EQ(std::ssize(players), phase_count(problem));
  for (std::int64_t phase = 0; phase < phase_count(problem); ++phase) {
    const auto groups = phase_groups(problem, phase);
    const std::array<int, 3> key{static_cast<int>(groups[0]), static_cast<int>(groups[1]), static_cast<int>(groups[2])};
    ASSERT_TRUE(players.contains(key));
    players.at(key).expect_neighbors(phase_grid(problem, phase), grid.extra_kv);
  }
}

template <int kColumns, RowKind kRows>
void play_random_problems(int seed) {
  check::Random random(seed);
  for (int n = 0; n < kProblems && !testing::Test::HasFailure(); ++n) {
    const Problem problem = random_problem(random);
    const Tiling tiling = random_tiling<kColumns>(random);
    play<kColumns, kRows>(problem, tiling, {problem, tiling, kRows});
  }
}

TEST(Sm90Tiles, AttendToEveryNeighborOnce) {
  play_random_problems<64, RowKind::queries>(11);
  play_random_problems<96, RowKind::queries>(12);
  play_random_problems<128, RowKind::queries>(13);
}

TEST(Sm90Tiles, MeetEveryQueryThatAttendsOnce) {
  play_random_problems<32, RowKind::keys>(14);
  play_random_problems<64, RowKind::keys>(15);
  play_random_problems<128, RowKind::keys>(17);
}

/// Makes rows of neighboring tiles see the same columns along one axis: all, or those of windows with a long stride.
void align_windows(check::Random& random, const Tiling& tiling, Problem& p) {
  const auto axis = static_cast<std::size_t>(random.between(3 - p.rank, 2));
  const std::int64_t tile = tiling.query_tile[axis] * tiling.block[axis];
  const bool whole = random.chance(0.5);
  p.dilation[axis] = 1;
  p.causal[axis] = false;
  p.stride[axis] = whole ? 1 : 2 * tile * random.between(1, 2);
  p.layout[axis] = std::max(2 * tile * random.between(1, 3) - random.between(0, tile - 1), p.stride[axis]);
  p.window[axis] = whole ? p.layout[axis] : random.between(p.stride[axis], p.layout[axis]);
}

TEST(Sm90Tiles, BlocksThatShareColumnTilesWantTheSame) {
  check::Random random(16);
  int shared = 0;
  for (int n = 0; n < kProblems && !HasFailure(); ++n) {
    Problem problem = random_problem(random);
    const Tiling tiling = random_tiling<64>(random);
    align_windows(random, tiling, problem);
    ASSERT_TRUE(validate(problem).ok()) << validate(problem).reason();
    if (problem.layout[0] * problem.layout[1] * problem.layout[2] > 800) continue;
    const TiledGrid alone(problem, tiling);
    TiledGrid grid = alone;
    grid.share_columns();
    if (grid.sharers == 1) continue;
    ++shared;
    ASSERT_EQ(2 * grid.items, alone.items);
    const int a = grid.shared_axis;
    for (int tile = 0; tile < alone.axes[a].tiles; ++tile) {
      const auto of_one = axis_share<RowKind::queries>(alone, a, 0, tile * alone.axes[a].row_tile, 0);
      const auto of_both = axis_share<RowKind::queries>(grid, a, 0, tile / 2 * grid.axes[a].row_tile, 0, tile % 2);
      EXPECT_EQ(of_one.rows, of_both.rows);
      EXPECT_EQ(of_one.halo_begin, of_both.halo_begin);
      EXPECT_EQ(of_one.column_tiles, of_both.column_tiles);
    }
    play<64, RowKind::queries>(problem, tiling, grid);
  }
  EXPECT_GT(shared, kProblems / 5);
}

TEST(Sm90Tiles, EveryKeyIsSeenByAnIntervalThatMovesForward) {
  for (int members = 1; members <= 20; ++members) {
    for (int window = 1; window <= members; ++window) {
      for (int stride = 1; stride <= window; ++stride) {
        for (const bool causal : {false, true}) {
          const Window axis{members, window, Divisor<int>(stride), causal};
          Range before{0, 0};
          for (int key = 0; key < members; ++key) {
            const Range seen = seen_by<RowKind::keys>(axis, key);
            ASSERT_LT(seen.begin, seen.end);
            ASSERT_LE(before.begin, seen.begin);
            ASSERT_LE(before.end, seen.end);
            before = seen;
          }
        }
      }
    }
  }
}

TEST(Sm90Tiles, CopiesFillConsecutiveRows) {
  check::Random random(7);
  for (int n = 0; n < 2000; ++n) {
    const auto tile = random_box(random, 128);
    PerAxis<std::int64_t> dilation{};
    for (std::int64_t& d : dilation) d = random.chance(0.5) ? 1 : random.between(1, 40);
    const TileShape shape(tile, dilation);
    ASSERT_EQ(shape.volume, tile[0] * tile[1] * tile[2]);
    int per_copy = 1;
    for (int a = 0; a < 3; ++a) {
      per_copy *= shape.box[a];
      EXPECT_TRUE(shape.box[a] == 1 || dilation[a] <= 8);
      EXPECT_LE(shape.box[a] * dilation[a], shape.box[a] == 1 ? dilation[a] : 256);
    }
    ASSERT_EQ(per_copy * shape.copies, shape.volume);
    for (int row = 0; row < shape.volume; ++row) {
      int expected = 0;
      // Inside a box rows follow the axes x, y, z; the first row of a box is the sum of the walked axes' strides.
      for (int a = 0; a < 3; ++a) {
        int stride = shape.row_stride[a];
        if (shape.box[a] > 1) {
          stride = 1;
          for (int b = a + 1; b < 3; ++b) stride *= shape.box[b];
        }
        expected += shape.position(a, row) * stride;
      }
      ASSERT_EQ(row, expected);
    }
  }
}

}  // namespace
}  // namespace vicinal::cuda::sm90
