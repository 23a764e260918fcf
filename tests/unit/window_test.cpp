// The closed formulas of core/window.h against the definition, by brute force over every small axis.

#include "core/window.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace vicinal {
namespace {

constexpr std::int64_t kLongestAxis = 24;

/// The tokens that token `index` of an axis attends to, by the words of the definition.
std::vector<std::int64_t> neighbors(std::int64_t index, std::int64_t extent, std::int64_t window, std::int64_t dilation,
                                    std::int64_t stride, bool causal) {
  std::vector<std::int64_t> group;  // the tokens that it can see, and where it is among them
  std::int64_t position = 0;
  for (std::int64_t token = index % dilation; token < extent; token += dilation) {
    if (token == index) position = static_cast<std::int64_t>(group.size());
    group.push_back(token);
  }
  const auto members = static_cast<std::int64_t>(group.size());

  // The leader of its run of `stride` tokens, where the last run may be shorter.
  std::int64_t leader = position - position % stride + (causal ? stride - 1 : stride / 2);
  leader = std::min(leader, members - 1);

  std::int64_t first = causal ? leader - (window - 1) : leader - window / 2;
  if (!causal) {  // pushed inward at the borders
    while (first < 0) ++first;
    while (first + window > members) --first;
  }
  std::vector<std::int64_t> attended;
  for (std::int64_t p = first; p < first + window; ++p) {
    if (p >= 0 && p < members && (!causal || p <= position)) attended.push_back(group[p]);
  }
  return attended;
}

template <class Visit>
void for_each_small_axis(Visit visit) {
  for (std::int64_t extent = 1; extent <= kLongestAxis; ++extent) {
    for (std::int64_t dilation = 1; dilation <= extent; ++dilation) {
      for (std::int64_t window = 1; window * dilation <= extent; ++window) {
        for (std::int64_t stride = 1; stride <= window; ++stride) {
          for (const bool causal : {false, true}) visit(extent, window, dilation, stride, causal);
        }
      }
    }
  }
}

template <class Index>
void expect_definition(std::int64_t extent, std::int64_t window, std::int64_t dilation, std::int64_t stride,
                       bool causal) {
  std::vector<std::vector<std::int64_t>> attending(static_cast<std::size_t>(extent));  // queries of each key
  const auto axis_of = [&](std::int64_t group) {
    return BasicAxisWindow<Index>{static_cast<Index>(group_members(extent, dilation, group)),
                                  static_cast<Index>(window), static_cast<Index>(stride), causal};
  };
  const auto tokens = [&](std::int64_t group, BasicInterval<Index> positions) {
    std::vector<std::int64_t> result;
    for (Index p = positions.begin; p < positions.end; ++p) result.push_back(group + dilation * p);
    return result;
  };
  const auto what = [&](std::int64_t index) {
    return fmt::format("token {} of {}, window {}, dilation {}, stride {}, causal {}", index, extent, window, dilation,
                       stride, causal);
  };
  for (std::int64_t query = 0; query < extent; ++query) {
    const auto expected = neighbors(query, extent, window, dilation, stride, causal);
    const std::int64_t group = query % dilation;
    const auto keys = axis_of(group).keys_of(static_cast<Index>(query / dilation));
    ASSERT_EQ(tokens(group, keys), expected) << "keys of " << what(query);
    ASSERT_EQ(keys.size(), static_cast<Index>(expected.size()));
    for (const std::int64_t key : expected) attending[key].push_back(query);
  }
  for (std::int64_t key = 0; key < extent; ++key) {
    const std::int64_t group = key % dilation;
    const auto queries = axis_of(group).queries_of(static_cast<Index>(key / dilation));
    ASSERT_EQ(tokens(group, queries), attending[key]) << "queries of " << what(key);
    ASSERT_EQ(queries.size(), static_cast<Index>(attending[key].size()));
  }
}

TEST(Window, MatchesTheDefinition) {
  for_each_small_axis([](auto... axis) {
    if (!testing::Test::HasFatalFailure()) expect_definition<std::int64_t>(axis...);
  });
}

TEST(Window, MatchesTheDefinitionInThirtyTwoBits) {
  for_each_small_axis([](auto... axis) {
    if (!testing::Test::HasFatalFailure()) expect_definition<std::int32_t>(axis...);
  });
}

TEST(Window, GroupsOfADilatedAxisHoldEveryTokenOnce) {
  for (std::int64_t extent = 1; extent <= kLongestAxis; ++extent) {
    for (std::int64_t dilation = 1; dilation <= extent; ++dilation) {
      std::int64_t total = 0;
      for (std::int64_t group = 0; group < dilation; ++group) total += group_members(extent, dilation, group);
      EXPECT_EQ(total, extent);
    }
  }
}

template <class Index>
void expect_packed(std::int64_t extent, std::int64_t dilation) {
  const PackedGroups<Index> groups(static_cast<Index>(extent), static_cast<Index>(dilation));
  Index place = 0;
  for (std::int64_t group = 0; group < dilation; ++group) {
    EXPECT_EQ(groups.begin(static_cast<Index>(group)), place)
        << "group " << group << " of extent " << extent << ", dilation " << dilation;
    for (std::int64_t token = group; token < extent; token += dilation) ++place;
  }
  EXPECT_EQ(place, static_cast<Index>(extent)) << "dilation " << dilation;
}

TEST(Window, PackedGroupsBeginWhereTheOneBeforeEnds) {
  for (std::int64_t extent = 1; extent <= 130; ++extent) {
    for (std::int64_t dilation = 1; dilation <= extent + 1; ++dilation) {
      expect_packed<std::int32_t>(extent, dilation);
      expect_packed<std::int64_t>(extent, dilation);
    }
  }
  expect_packed<std::int32_t>(32768, 7);
  expect_packed<std::int32_t>(100003, 4099);
}

TEST(Window, IsUsableInConstantExpressions) {
  constexpr AxisWindow axis{.members = 10, .window = 4, .stride = 1, .causal = false};
  static_assert(axis.keys_of(5) == Interval{3, 7}, "an even window leans left");
  static_assert(axis.keys_of(0) == Interval{0, 4}, "pushed inward at the start");
  static_assert(axis.keys_of(9) == Interval{6, 10}, "pushed inward at the end");
  static_assert(axis.queries_of(0) == Interval{0, 3});
}

TEST(Window, HoldsBeyondThirtyTwoBits) {
  constexpr std::int64_t kMembers = std::int64_t{1} << 40;
  constexpr AxisWindow axis{.members = kMembers, .window = kMembers / 2 + 1, .stride = 3, .causal = false};
  static_assert(axis.keys_of(kMembers - 1) == Interval{kMembers / 2 - 1, kMembers});
  static_assert(axis.queries_of(kMembers - 1).contains(kMembers - 1));
}

TEST(Window, StrideEqualToTheWindowIsBlockedAttention) {
  constexpr AxisWindow axis{.members = 12, .window = 4, .stride = 4, .causal = false};
  for (std::int64_t query = 0; query < 12; ++query) {
    EXPECT_EQ(axis.keys_of(query), (Interval{query / 4 * 4, query / 4 * 4 + 4}));
  }
}

}  // namespace
}  // namespace vicinal
