#pragma once

// How long the Hopper kernels take, as their planner sees it: what tiles of given sizes come to along each axis, and
// what that costs.

#include <cstdint>
#include <vector>

#include "cuda/fused_sm90/classes.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

/// What a choice of tiles comes to: along one axis, summed over the query tiles of all dilation groups, or, as the
/// product of its axes, for one head and batch entry.
struct Work {
  double items = 1;     ///< query tiles
  double loaded = 1;    ///< key tiles that some warpgroup needs
  double visited = 1;   ///< (warpgroup, key tile) pairs
  double unmasked = 1;  ///< those in which all queries see all keys

  Work& operator*=(const Work& other);
};

/// Which keys the query tiles of one size see along one axis.
class AxisSpans {
 public:
  /// Query tiles of `boxes` boxes of `query_box` positions. Looks at about `most_tiles` tiles of each kind of dilation
  /// group, evenly apart, and takes them for all.
  AxisSpans(const Problem& grid, int axis, std::int64_t query_box, std::int64_t boxes, std::int64_t most_tiles);

  [[nodiscard]] Work work(std::int64_t key_tile) const;
  [[nodiscard]] double items() const { return items_; }
  /// (warpgroup, key) pairs: no key tile visits fewer.
  [[nodiscard]] double keys() const { return keys_; }

 private:
  /// Of one box of queries, relative to the halo of its tile. Whole numbers, as the arithmetic wants them.
  struct Span {
    double weight;  ///< how many such boxes there are
    double halo;    ///< keys of the whole tile, or 0 but for its first box
    double begin, end;
    double common_begin, common_end;  ///< that all queries of the box see
  };
  void add_groups(const Problem& grid, int axis, std::int64_t group, std::int64_t count, std::int64_t query_box,
                  std::int64_t boxes, std::int64_t most_tiles);

  std::vector<Span> spans_;
  double items_ = 0;
  double keys_ = 0;
};

/// Seconds of one class of the forward kernel for a problem.
class CostModel {
 public:
  CostModel(const Problem& grid, const ForwardClass& size);

  [[nodiscard]] double seconds(const Work& work, std::int64_t key_volume) const;
  /// The most (warpgroup, key tile) pairs that may take less than `seconds`.
  [[nodiscard]] double visited_within(double seconds, double items) const;

 private:
  /// Of a multiprocessor, of which blocks take `items` in turns.
  [[nodiscard]] double rounds(double items) const;

  std::int64_t columns_, extra_kv_;
  double heads_, places_, warpgroups_;
  double tile_, mask_, item_;       // of a multiprocessor that is never idle
  double bytes_seconds_of_key_;     // for all heads
};

}  // namespace vicinal::cuda::sm90
