#pragma once

// How long the Hopper kernels take, as their planner sees it: what tiles of given sizes come to along each axis, and
// what that costs. A kernel makes one or two passes over the grid. In each, boxes of tokens of one kind, rows, stay
// with a warpgroup, and tiles of the other kind pass by.

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/tiles.h"
#include "vicinal/plan.h"

namespace vicinal::cuda::sm90 {

/// How an operation is computed: a row of the registry.
enum class Method : std::uint8_t { forward, forward_pairs, backward, backward_one_pass };

constexpr bool is_forward(Method method) { return method == Method::forward || method == Method::forward_pairs; }

/// Heads that are one to the kernel.
constexpr int joined_heads(Method method) { return method == Method::forward_pairs ? kPairedHeads : 1; }

/// The sizes that the kernels of a method are compiled for.
std::span<const KernelClass> classes_of(Method method);

/// What is kept in each pass that they make.
std::span<const RowKind> passes_of(Method method);

/// Of the backward kernels where rows are keys: S, dP, dV and dK, and dQ if there is no other pass, or, where registers
/// do not hold both gradients, S, dP and dK and then S and dV. Where rows are queries they are three: S, dP and dQ.
int products_over_keys(Method method, const KernelClass& size);

/// What a choice of boxes and tiles comes to in one pass: along one axis, summed over all dilation groups, or, as the
/// product of its axes, for one head and batch entry.
struct Work {
  double items = 1;     ///< blocks of boxes, one box for each warpgroup
  double loaded = 1;    ///< tiles that some warpgroup needs
  double visited = 1;   ///< (warpgroup, tile) pairs
  double unmasked = 1;  ///< those in which all tokens of the box and all of the tile see each other

  Work& operator*=(const Work& other);
};

/// Blocks of that many tokens along one axis, summed over all dilation groups.
double blocks_along(const Problem& grid, int axis, std::int64_t block);

/// What the boxes of one size see along one axis.
class AxisSpans {
 public:
  AxisSpans() = default;
  /// Blocks of `boxes` boxes of `box` tokens. Of blocks that may differ, looks at about `most_blocks` of each part of
  /// an axis, evenly apart, and takes them for all.
  AxisSpans(const Problem& grid, int axis, RowKind rows, std::int64_t box, std::int64_t boxes,
            std::int64_t most_blocks);

  [[nodiscard]] Work work(std::int64_t tile) const;
  /// Adds the visited tiles of many extents, whose reciprocals are given, to as many numbers.
  void add_visited(std::span<const double> reciprocals, double* visited) const;
  /// (Warpgroup, token that passes by) pairs: no tile visits fewer.
  [[nodiscard]] double tokens() const { return tokens_; }

 private:
  /// Of one box, relative to the corner of its block's halo. Small, since a search makes thousands where axes are
  /// strided.
  struct Span {
    double weight;                          ///< how many such boxes there are
    std::int32_t halo;                      ///< tokens that the block sees, of its first box; of others 0
    std::int32_t begin, end;                ///< that some token of the box sees
    std::int32_t common_begin, common_end;  ///< that all see
  };
  void add_groups(const Problem& grid, int axis, RowKind rows, std::int64_t group, std::int64_t count, std::int64_t box,
                  std::int64_t boxes, std::int64_t most_blocks);

  std::vector<Span> spans_;
  double items_ = 0;
  double tokens_ = 0;
};

/// Seconds of one class of a kernel for a problem.
class CostModel {
 public:
  CostModel(const Problem& grid, Method method, const KernelClass& size);

  /// What a tile of that shape has to do with costs.
  struct Tile {
    double volume;
    double extra;   ///< such tiles hold the extra tokens, where rows are queries
    double copies;  ///< boxes by which the copy engine fills it, where those take time: where it is walked
    bool full;      ///< else columns are left over, and masked
  };
  [[nodiscard]] Tile tile(const PerAxis<std::int64_t>& shape) const;

  /// Time with the turns that blocks take at a multiprocessor's items over that which would do if items could be cut.
  [[nodiscard]] double idling(std::size_t pass, double items) const;
  /// Of the pass of that number, with `idling` for the items of the work.
  [[nodiscard]] double seconds(std::size_t pass, const Work& work, const Tile& tile, double idling) const;
  /// What `items` take without their tiles.
  [[nodiscard]] double fixed_seconds(std::size_t pass, double items, double idling) const;
  /// What a (warpgroup, tile) pair takes where nothing is masked.
  [[nodiscard]] double visit_seconds(std::size_t pass, double idling) const { return passes_[pass].tile * idling; }
  /// Of all passes, and of what is done beside them.
  [[nodiscard]] double seconds(std::span<const Work> works, const PerAxis<std::int64_t>& tile_shape) const;

 private:
  /// Seconds of a multiprocessor that is never idle, for all heads (joined ones are one) and batch entries.
  struct PassCosts {
    RowKind rows;
    double item_heads;  ///< heads and batch entries that have items of their own
    double tile, mask, item, lone;
  };
  const Problem& grid_;
  std::int64_t columns_, extra_kv_;
  double places_, warpgroups_;
  double short_mask_, idle_loss_, launch_seconds_;
  double copy_seconds_;   ///< of one copy for each tensor and chunk, for all heads and batch entries
  double aside_seconds_;  ///< gradients of extra tokens; clearing and rounding sums of dQ
  double byte_seconds_;   ///< of a token that is loaded, and added to, for all heads and batch entries
  std::vector<PassCosts> passes_;
};

}  // namespace vicinal::cuda::sm90
