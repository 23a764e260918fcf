#pragma once

// What boxes of tokens see along each axis, and what tiles of given sizes come to there.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/fused_sm90/tiles.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

/// What a choice of boxes and tiles comes to in one pass: along one axis, summed over all dilation groups, or, as the
/// product of its axes, for one head and batch entry.
struct Work {
  double items = 1;     ///< blocks of boxes, one box for each warpgroup
  double loaded = 1;    ///< tiles that some warpgroup needs
  double visited = 1;   ///< (warpgroup, tile) pairs
  double unmasked = 1;  ///< those in which all tokens of the box and all of the tile see each other
  double axes = 0;      ///< along which a pair is masked, on average
  double longest = 1;   ///< the most tiles that some item needs
  double rows = 1;      ///< tokens of a box
  double copies = 1;    ///< boxes by which the copy engine fills that of tokens

  Work& operator*=(const Work& other);
};

/// What boxes see in one pass of a kernel. Keeps what it was asked for.
class Spans {
 public:
  /// Of blocks that may differ, looks at `most_blocks` of each part of an axis and takes them for all.
  Spans(const Problem& grid, RowKind rows, const PerAxis<int>& most_blocks);

  /// Room for what a search asks for, mostly.
  void reserve_for_search() { spans_.reserve(1024); }

  /// Blocks of that many tokens along an axis, summed over all dilation groups.
  [[nodiscard]] double blocks(int axis, std::int64_t block) const;

  /// All boxes of one size along an axis.
  struct Boxes {
    double items = 0;                  ///< blocks of them
    float rows = 0;                    ///< tokens of each
    float copies = 1;                  ///< that fill one
    float tokens = 0;                  ///< (box, token that some of it sees) pairs: tiles are not visited less often
    float common = 0;                  ///< (box, token that all of it see) pairs: no more tiles are unmasked
    std::int32_t longest = 0;          ///< the most tokens that a block sees
    float halos = 0;                   ///< (block, token that it sees) pairs
    std::uint32_t begin = 0, end = 0;  ///< their spans
  };
  /// Of blocks of `boxes` boxes of `box` tokens.
  Boxes add(int axis, std::int64_t box, std::int64_t boxes);

  [[nodiscard]] Work work(const Boxes& boxes, std::int64_t tile) const;
  /// Adds, for tiles of many extents, whose reciprocals are given, that much for each visited and for each loaded tile.
  /// About, where boxes see millions of tokens.
  void add_tiles(const Boxes& boxes, std::span<const float> reciprocals, float of_visited, float of_loaded,
                 float* sums) const;

 private:
  /// Of one box, relative to the corner of its block's halo.
  struct Span {
    float weight;                           ///< how many such boxes there are
    std::int32_t halo;                      ///< tokens that the block sees, of its first box; of others 0
    std::int32_t begin, end;                ///< that some token of the box sees
    std::int32_t common_begin, common_end;  ///< that all see
  };
  /// The dilation groups of one size along an axis.
  struct Groups {
    Window window;
    double count;
    /// The middle of the axis, in which tokens see the same, relative to where they are, but for strides. Before it and
    /// behind it borders push windows inward, or cut them.
    int middle_begin, middle_end;
    bool borders_are_one;  ///< the tokens of each border all see the same
  };
  [[nodiscard]] Groups groups_of(const Problem& grid, int axis, std::int64_t group, std::int64_t count) const;
  [[nodiscard]] Range seen(const Window& window, int token) const;
  void add_groups(const Groups& groups, int box, int boxes, int most_blocks, Boxes& sum);
  void add_block(const Window& window, Range tokens, int box, double weight, Boxes& sum);

  RowKind rows_;
  PerAxis<int> most_blocks_;
  PerAxis<std::int64_t> dilation_;
  std::array<std::array<Groups, 2>, 3> axes_{};  // the second of no groups where all of an axis are of one size
  std::vector<Span> spans_;
};

}  // namespace vicinal::cuda::sm90
