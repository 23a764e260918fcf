#include "cuda/fused_sm90/cost_model.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/tiling.h"

namespace vicinal::cuda::sm90 {
namespace {

/// Microseconds of a multiprocessor that is never idle, fitted to measurements on an H200
/// (docs/decisions/0071-hopper-cost-model.md).
struct ClassCosts {
  double tile;  ///< a key tile of one warpgroup
  double mask;  ///< what masking adds to it
  double item;  ///< what a work item adds
};
constexpr std::array<ClassCosts, kForwardClasses.size()> kClassCosts{{
    {0.31, 0.04, 0.7},   // 32x1
    {0.58, 0.06, 2.5},   // 32x2
    {0.35, 0.04, 1.0},   // 64x1
    {0.64, 0.06, 3.0},   // 64x2
    {0.44, 0.05, 3.5},   // 64x3
    {0.80, 0.06, 3.0},   // 96x2
    {0.91, 0.06, 3.0},   // 128x2
    {0.94, 0.05, 3.0},   // 192x2
    {0.80, 0.04, 3.0},   // 256x2
}};
constexpr double kMultiprocessors = 132;
constexpr double kLaunchSeconds = 4e-6;
constexpr double kBytesPerSecond = 5e12;  // from the second-level cache

/// x / y rounded down or up, for whole numbers below 2^40 and a `reciprocal` of y: half of a unit in the numerator is
/// more than all rounding.
double quotient(double x, double reciprocal) { return std::floor((x + 0.5) * reciprocal); }
double quotient_up(double x, double reciprocal) { return std::ceil((x - 0.5) * reciprocal); }

}  // namespace

Work& Work::operator*=(const Work& other) {
  items *= other.items;
  loaded *= other.loaded;
  visited *= other.visited;
  unmasked *= other.unmasked;
  return *this;
}

AxisSpans::AxisSpans(const Problem& grid, int axis, std::int64_t query_box, std::int64_t boxes,
                     std::int64_t most_tiles) {
  const std::int64_t dilation = grid.dilation[axis];
  const std::int64_t larger_groups = grid.layout[axis] % dilation;
  add_groups(grid, axis, 0, larger_groups, query_box, boxes, most_tiles);
  add_groups(grid, axis, dilation - 1, dilation - larger_groups, query_box, boxes, most_tiles);
}

void AxisSpans::add_groups(const Problem& grid, int axis, std::int64_t group, std::int64_t count,
                           std::int64_t query_box, std::int64_t boxes, std::int64_t most_tiles) {
  if (count == 0) return;
  const AxisWindow window = axis_window(grid, axis, group);
  const std::int64_t query_tile = query_box * boxes;
  const std::int64_t tiles = ceil_div(window.members, query_tile);
  const std::int64_t looks = std::min(tiles, most_tiles);
  const double weight = static_cast<double>(count) * static_cast<double>(tiles) / static_cast<double>(looks);
  items_ += static_cast<double>(count) * static_cast<double>(tiles);
  for (std::int64_t i = 0; i < looks; ++i) {
    const std::int64_t begin = (looks == tiles ? i : (2 * i + 1) * tiles / (2 * looks)) * query_tile;
    const std::int64_t end = std::min(begin + query_tile, window.members);
    const Interval whole = halo(window, {begin, end});
    for (std::int64_t b = begin; b < end; b += query_box) {
      const Interval queries{b, std::min(b + query_box, end)};
      const Interval needed = halo(window, queries);
      const Interval common = common_keys(window, queries);
      const auto from_corner = [&](std::int64_t key) { return static_cast<double>(key - whole.begin); };
      spans_.push_back({weight, b == begin ? static_cast<double>(whole.size()) : 0.0, from_corner(needed.begin),
                        from_corner(needed.end), from_corner(common.begin), from_corner(common.end)});
      keys_ += weight * static_cast<double>(needed.size());
    }
  }
}

Work AxisSpans::work(std::int64_t key_tile) const {
  const double reciprocal = 1.0 / static_cast<double>(key_tile);
  Work sum{items_, 0, 0, 0};
  for (const Span& span : spans_) {
    const double unmasked = quotient(span.common_end, reciprocal) - quotient_up(span.common_begin, reciprocal);
    sum.loaded += span.weight * quotient_up(span.halo, reciprocal);
    sum.visited += span.weight * (quotient_up(span.end, reciprocal) - quotient(span.begin, reciprocal));
    sum.unmasked += span.weight * std::max(unmasked, 0.0);
  }
  return sum;
}

CostModel::CostModel(const Problem& grid, const ForwardClass& size)
    : columns_(size.columns),
      extra_kv_(grid.extra_kv),
      heads_(static_cast<double>(grid.batch) * static_cast<double>(grid.heads)),
      places_(kMultiprocessors * size.blocks),
      warpgroups_(size.warpgroups) {
  const ClassCosts& costs = kClassCosts[forward_class(size.dim, size.warpgroups)];
  tile_ = 1e-6 * costs.tile;
  mask_ = 1e-6 * costs.mask;
  item_ = 1e-6 * costs.item;
  bytes_seconds_of_key_ = heads_ * static_cast<double>(grid.dim + grid.dim_v) *
                          static_cast<double>(size_of(grid.dtype)) / kBytesPerSecond;
}

double CostModel::rounds(double items) const {
  // Blocks take items in turns, so the last round counts whole.
  const double all = heads_ * items;
  return heads_ * std::ceil(all / places_) * places_ / (all * kMultiprocessors);
}

double CostModel::seconds(const Work& work, std::int64_t key_volume) const {
  const double extra = work.items * static_cast<double>(ceil_div(extra_kv_, key_volume));
  const double visited = work.visited + extra * warpgroups_;
  const double masked = key_volume == columns_ ? visited - work.unmasked : visited;
  const double bytes = (work.loaded + extra) * static_cast<double>(key_volume) * bytes_seconds_of_key_;
  const double busy = visited * tile_ + masked * mask_ + work.items * item_;
  return std::max(busy * rounds(work.items), bytes) + kLaunchSeconds;
}

double CostModel::visited_within(double seconds, double items) const {
  return ((seconds - kLaunchSeconds) / rounds(items) - items * item_) / tile_;
}

}  // namespace vicinal::cuda::sm90
