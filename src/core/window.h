#pragma once

// The definition of a neighborhood, and the only one: everything that needs to know which keys a query attends to asks
// here. Positions are local to one dilation group of one axis: token = group + dilation * position.

#include <cstdint>

#if defined(__CUDACC__)
#define VICINAL_HOST_DEVICE __host__ __device__
#else
#define VICINAL_HOST_DEVICE
#endif

namespace vicinal {

/// Half-open range of positions or coordinates.
template <class Index>
struct BasicInterval {
  Index begin{};
  Index end{};

  VICINAL_HOST_DEVICE constexpr Index size() const { return end > begin ? end - begin : 0; }
  VICINAL_HOST_DEVICE constexpr bool contains(Index i) const { return begin <= i && i < end; }
  friend constexpr bool operator==(const BasicInterval&, const BasicInterval&) = default;
};

/// Tokens of dilation group `group` on an axis: positions 0 .. members-1. Groups may differ by one member.
/// `Dilation` is Index, or a type that divides by one.
template <class Index, class Dilation>
VICINAL_HOST_DEVICE constexpr Index group_members(Index extent, const Dilation& dilation, Index group) {
  return (extent - group + dilation - 1) / dilation;
}

/// The dilation groups of an axis one behind the other, so that neighbors in a group are neighbors: as many places as
/// the axis has tokens.
template <class Index>
class PackedGroups {
 public:
  PackedGroups() = default;
  constexpr PackedGroups(Index extent, Index dilation) : least_(extent / dilation), larger_(extent % dilation) {}

  /// The place of the group's first member.
  VICINAL_HOST_DEVICE constexpr Index begin(Index group) const {
    return group * least_ + (group < larger_ ? group : larger_);
  }

 private:
  Index least_{};   // members that every group has
  Index larger_{};  // groups, the first ones, that have one more
};

/// One axis of one dilation group. Requires 1 <= stride <= window <= members.
/// `Index` is int64_t on the host; kernels may use int32_t where every extent fits. `Stride` is Index, or a type that
/// divides by one.
template <class Index, class Stride = Index>
struct BasicAxisWindow {
  Index members{};  ///< tokens in the group
  Index window{};
  Stride stride{};
  bool causal{};

  /// The query whose window all queries of its stride group share.
  VICINAL_HOST_DEVICE constexpr Index leader(Index query) const {
    const Index first = stride == 1 ? query : query / stride * stride;  // a division is dear
    const Index last = members - 1;
    const Index middle = first + (causal ? stride - 1 : stride / 2);
    return middle < last ? middle : last;
  }

  /// Keys that a query attends to; never empty, begin and end both monotone in the query.
  VICINAL_HOST_DEVICE constexpr BasicInterval<Index> keys_of(Index query) const {
    const Index lead = leader(query);
    if (causal) {
      const Index begin = lead - window + 1;
      return {begin > 0 ? begin : 0, query + 1};
    }
    const Index latest = members - window;  // the window is pushed inward at the borders, never cut
    const Index begin = lead - window / 2;  // an even window leans left
    const Index pushed = begin < 0 ? 0 : (begin > latest ? latest : begin);
    return {pushed, pushed + window};
  }

  /// Queries that attend to a key: an interval, because begin and end of keys_of are monotone; never empty, because
  /// stride <= window.
  VICINAL_HOST_DEVICE constexpr BasicInterval<Index> queries_of(Index key) const {
    return causal ? causal_queries_of(key) : centered_queries_of(key);
  }

 private:
  // Stride groups whose uncapped leader is at most `limit`: the number of them, at least 0.
  VICINAL_HOST_DEVICE constexpr Index groups_led_up_to(Index limit, Index middle) const {
    return limit < middle ? 0 : (limit - middle) / stride + 1;
  }

  VICINAL_HOST_DEVICE constexpr BasicInterval<Index> bounded(Index first_group, Index end_group, Index floor) const {
    const Index groups = (members + stride - 1) / stride;
    // The last group's leader is capped at the last token, so it still reaches the last keys.
    const Index begin = (first_group < groups - 1 ? first_group : groups - 1) * stride;
    const Index end = end_group < groups ? end_group * stride : members;
    return {begin > floor ? begin : floor, end};
  }

  VICINAL_HOST_DEVICE constexpr BasicInterval<Index> causal_queries_of(Index key) const {
    // keys_of(q).begin <= key  <=>  leader(q) <= key + window - 1, and q >= key.
    const Index limit = key + window - 1;
    const Index end_group = limit >= members - 1 ? members : groups_led_up_to(limit, stride - 1);
    return bounded(0, end_group, key);
  }

  VICINAL_HOST_DEVICE constexpr BasicInterval<Index> centered_queries_of(Index key) const {
    const Index before = window / 2;
    const Index after = window - 1 - before;
    // begin(q) <= key: always when key is in the last window, else leader(q) <= key + before.
    const bool in_last_window = key >= members - window || key + before >= members - 1;
    const Index end_group = in_last_window ? members : groups_led_up_to(key + before, stride / 2);
    // end(q) > key: always when key is in the first window, else leader(q) >= key - after.
    const Index first_group = key < window ? 0 : groups_led_up_to(key - after - 1, stride / 2);
    return bounded(first_group, end_group, 0);
  }
};

using Interval = BasicInterval<std::int64_t>;
using AxisWindow = BasicAxisWindow<std::int64_t>;

}  // namespace vicinal
