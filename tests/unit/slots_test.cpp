// Slots and entries of the bias by brute force, over every small axis.

#include "core/slots.h"

#include <map>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "core/neighbors.h"
#include "core/tiling.h"

namespace vicinal {
namespace {

/// Calls visit(axis) for every axis of up to `longest` tokens.
template <class Visit>
void for_each_axis(std::int64_t longest, Visit visit) {
  for (std::int64_t members = 1; members <= longest; ++members) {
    for (std::int64_t window = 1; window <= members; ++window) {
      for (std::int64_t stride = 1; stride <= window; ++stride) {
        for (const bool causal : {false, true}) visit(AxisWindow{members, window, stride, causal});
      }
    }
  }
}

TEST(Slots, OfAnAxisAreItsKeysInOrderAndThenMaskedOnes) {
  for_each_axis(16, [](const AxisWindow& axis) {
    for (std::int64_t query = 0; query < axis.members; ++query) {
      const Interval keys = axis.keys_of(query);
      ASSERT_LE(keys.size(), axis.window);
      ASSERT_TRUE(axis.causal || keys.size() == axis.window) << "only causality masks";
      for (std::int64_t slot = 0; slot < axis.window; ++slot) {
        const std::int64_t key = key_of_slot(keys, slot);
        ASSERT_EQ(is_masked(keys, slot), !keys.contains(key));
        ASSERT_EQ(slot_of_key(keys, key), slot);
      }
    }
  });
}

TEST(Slots, EveryPairHasAnEntryOfTheBiasThatDependsOnItsDistanceAlone) {
  for_each_axis(16, [](const AxisWindow& axis) {
    std::map<std::int64_t, std::int64_t> entries;  // by distance
    for (std::int64_t query = 0; query < axis.members; ++query) {
      const Interval keys = axis.keys_of(query);
      for (std::int64_t key = keys.begin; key < keys.end; ++key) {
        const std::int64_t entry = bias_index(axis.window, query, key);
        ASSERT_GE(entry, 0);
        ASSERT_LT(entry, 2 * axis.window - 1);
        ASSERT_EQ(entries.emplace(key - query, entry).first->second, entry);
      }
    }
    std::set<std::int64_t> distinct;
    for (const auto& [distance, entry] : entries) distinct.insert(entry);
    ASSERT_EQ(distinct.size(), entries.size());
    ASSERT_EQ(bias_index(axis.window, std::int64_t{3}, std::int64_t{3}), axis.window - 1);
  });
}

TEST(Slots, AreRowMajor) {
  constexpr SlotGrid slots{{2, 3, 4}};
  static_assert(slots.size() == 24);
  std::int64_t next = 0;
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) {
      for (std::int64_t k = 0; k < 4; ++k) EXPECT_EQ(slots.flat(i, j, k), next++);
    }
  }
}

TEST(Slots, OfAQueryAreThoseOfItsWindowAndOfExtraTokens) {
  Problem p;
  p.rank = 2;
  p.layout = {9, 9, 1};
  p.window = {3, 4, 7};  // the last one does not count
  p.extra_kv = 5;
  EXPECT_EQ(slots_per_query(p), 3 * 4 + 5);
  EXPECT_EQ(slots_per_query(padded_to_rank_3(p)), 3 * 4 + 5);
  EXPECT_EQ(window_slots(padded_to_rank_3(p)).size(), 3 * 4);
  EXPECT_EQ(bias_entries(padded_to_rank_3(p)).size(), 5 * 7);
}

/// One slot of a run, written out.
struct Slot {
  std::int64_t slot;
  Token key;
  Token bias_entry;
};

TEST(SlotRuns, AreTheNeighborsOfAQueryInOrder) {
  Problem grid;
  grid.rank = 3;
  grid.layout = {5, 9, 14};
  grid.window = {3, 2, 4};
  grid.dilation = {1, 4, 3};
  grid.stride = {2, 2, 3};
  for (const PerAxis<bool>& causal : {PerAxis<bool>{false, false, false}, {true, false, true}, {true, true, true}}) {
    grid.causal = causal;
    for (std::int64_t i = 0; i < grid.tokens(); ++i) {
      const Token query = token_at(grid, i);
      std::vector<Slot> slots;
      for_each_slot_run(grid, query, [&](const SlotRun& run) {
        for (std::int64_t k = 0; k < run.count; ++k) {
          slots.push_back({run.slot + k,
                           {run.key[0], run.key[1], run.key[2] + k * grid.dilation[2]},
                           {run.bias_entry[0], run.bias_entry[1], run.bias_entry[2] + k}});
        }
      });
      std::vector<Token> keys;
      for_each_neighbor(grid, query, &AxisWindow::keys_of, [&](const Token& key) { keys.push_back(key); });
      ASSERT_EQ(slots.size(), keys.size());
      for (std::size_t n = 0; n < slots.size(); ++n) {
        ASSERT_EQ(slots[n].key, keys[n]);
        std::int64_t slot = 0;
        for (int a = 0; a < 3; ++a) {
          slot = slot * grid.window[a] + (keys[n][a] - keys[0][a]) / grid.dilation[a];
          ASSERT_EQ(slots[n].bias_entry[a], grid.window[a] - 1 + (keys[n][a] - query[a]) / grid.dilation[a]);
        }
        ASSERT_EQ(slots[n].slot, slot);
      }
    }
  }
}

}  // namespace
}  // namespace vicinal
