#include "cuda/fused_sm90/planner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/tiling.h"
#include "cuda/devices.h"
#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/copies.h"
#include "cuda/fused_sm90/cost_model.h"
#include "cuda/fused_sm90/search.h"
#include "cuda/fused_sm90/tiles.h"
#include "plan/cost.h"

namespace vicinal::cuda::sm90 {
namespace {

using Shape = PerAxis<std::int64_t>;

constexpr int kMostBlocks = 1024;  // more along an axis are not looked at one by one

/// The class of a problem with tiles for that many warpgroups; none where there is none.
const KernelClass* class_of(const Problem& grid, Method method, std::int64_t warpgroups) {
  const std::span<const KernelClass> classes = classes_of(method);
  const std::size_t index = class_index(classes, class_dim_of(grid, method), warpgroups);
  return index < classes.size() ? &classes[index] : nullptr;
}

std::int64_t volume(const Shape& tile) { return tile[0] * tile[1] * tile[2]; }

constexpr std::int64_t kMostTokens = std::numeric_limits<std::int32_t>::max() / 4;  // along an axis

/// Kernels count items in 32 bits, and blocks step beyond the last. There are at least as many query heads as key
/// heads.
Status has_room_for_items(const Problem& grid, Method method, const Tiling& tiling) {
  constexpr std::int64_t kMostItems = std::numeric_limits<std::int32_t>::max() / 2;
  const std::int64_t items = work_items(joined(grid, method), tiling);
  if (items <= kMostItems) return {};
  return Status::refuse(fmt::format("{} work items; allowed: up to {}", items, kMostItems));
}

Status supports(const Problem& grid, Method method) {
  const std::int64_t most_dim = classes_of(method).back().dim;
  if (grid.dtype != DType::fp16 && grid.dtype != DType::bf16) {
    return Status::refuse(fmt::format("dtype = {}; allowed: fp16, bf16", name_of(grid.dtype)));
  }
  if (std::max(grid.dim, grid.dim_v) > most_dim) {
    return Status::refuse(fmt::format("dim = {}, dim_v = {}; allowed: up to {}", grid.dim, grid.dim_v, most_dim));
  }
  if (std::ranges::max(grid.layout) > kMostTokens || grid.extra_kv > kMostTokens) {
    return Status::refuse(fmt::format("an axis of more than {} tokens", kMostTokens));
  }
  if (grid.batch * grid.heads * grid.tokens() > kMostTokens * kWarpgroupRows / 8) {
    return Status::refuse("batch * heads * tokens is too large for 32-bit work items");
  }
  // Where tiles of one token each would not be too many, no others are.
  constexpr Tiling kOneToken{.query_tile = {1, 1, 1}, .key_tile = {1, 1, 1}};
  if (!has_room_for_items(grid, method, kOneToken).ok()) {
    const Tiling planned = best_tilings(grid, method, 1).front().tiling;
    if (Status s = has_room_for_items(grid, method, planned); !s.ok()) return s;
  }
  const int major = compute_capability_major(grid.device.index);
  if (major != 9) return Status::refuse(fmt::format("compute capability {}.x; allowed: 9.x (Hopper)", major));
  return {};
}

Status accepts(const Problem& grid, Method method, const Tiling& tiling) {
  const KernelClass* size = class_of(grid, method, volume(tiling.block));
  if (size == nullptr || std::ranges::count(tiling.block, 1) < 2) {
    return Status::refuse(
        fmt::format("tiling.block = {}; allowed: 2 along one axis{}", fmt::join(tiling.block, "x"),
                    method == Method::backward_one_pass ? "" : ", or 1x1x1 where the head dim is at most 64"));
  }
  if (tiling.rows != kWarpgroupRows || tiling.columns != size->columns) {
    return Status::refuse(fmt::format("tiling.rows = {}, tiling.columns = {}; allowed for such blocks: {}, {}",
                                      tiling.rows, tiling.columns, kWarpgroupRows, size->columns));
  }
  // Of tokens behind a tile's first, which kernels add up in 32 bits.
  constexpr std::int64_t kMostPassedOver = std::numeric_limits<std::int32_t>::max() - kMostTokens;
  for (const auto& [name, tile] : {std::pair("query_tile", tiling.query_tile), {"key_tile", tiling.key_tile}}) {
    for (int a = 0; a < 3; ++a) {
      if (tile[a] * grid.dilation[a] <= kMostPassedOver) continue;
      return Status::refuse(
          fmt::format("tiling.{} = {} with dilation = {}; allowed: products along an axis of up to {}", name,
                      fmt::join(tile, "x"), fmt::join(grid.dilation, "x"), kMostPassedOver));
    }
  }
  return has_room_for_items(grid, method, tiling);
}

/// Multiply-adds of a pass, for `pairs` pairs of slots.
double multiply_adds_of_pass(const Problem& grid, Method method, const KernelClass& size, RowKind rows, double pairs) {
  const double forward = multiply_adds(grid, Operation::forward, pairs);
  if (is_forward(method)) return forward;
  // S and dP are made in each of two passes: seven products, or eight, instead of the five that multiply_adds counts.
  // S, dP and dQ are all but dV and dK; S, dP, dV and dK twice a forward pass; and with S once more as many as those
  // five.
  const double backward = multiply_adds(grid, Operation::backward, pairs);
  if (rows == RowKind::queries) return backward - forward;
  return products_over_keys(method, size) == 4 ? 2 * forward : backward;
}

/// How the items of a pass come to blocks.
struct Dealt {
  int items;
  double unevenness;
  bool shared;  ///< column tiles, by two blocks
};
Dealt dealt(const Problem& items, Method method, const Tiling& tiling, const KernelClass& size, RowKind rows) {
  TiledGrid tiled(items, tiling, rows);
  const int count = tiled.items;  // before blocks share them
  const Deal deal = deal_of(tiled, method, size, rows);
  const bool shared =
      method == Method::forward && share_columns(tiled, size, deal.dealing, copies_of(items).by_copy_engine);
  return {count, deal.unevenness, shared};
}

Cost cost(const Problem& grid, Method method, const Tiling& tiling) {
  const KernelClass& size = *class_of(grid, method, volume(tiling.block));
  const std::span<const RowKind> passes = passes_of(method);
  const std::int64_t tile_volume = volume(tiling.key_tile);
  const double slots = static_cast<double>(tiling.rows * tiling.columns);
  const Operation operation = is_forward(method) ? Operation::forward : Operation::backward;
  Cost cost{.needed_multiply_adds = multiply_adds(grid, operation, needed_pairs(grid)),
            .bytes = compulsory_bytes(grid, operation)};
  const CostModel model(grid, method, size);
  const Problem items = joined(grid, method);
  std::array<Work, kMostPasses> works;
  std::array<double, kMostPasses> idling{};
  bool shared = false;
  for (std::size_t pass = 0; pass < passes.size(); ++pass) {
    Work& work = works[pass];
    Spans spans(grid, passes[pass], {kMostBlocks, kMostBlocks, kMostBlocks});
    for (int a = 0; a < 3; ++a) {
      work *= spans.work(spans.add(a, tiling.query_tile[a], tiling.block[a]), tiling.key_tile[a]);
    }
    const std::int64_t tiles_of_extra = passes[pass] == RowKind::queries ? ceil_div(grid.extra_kv, tile_volume) : 0;
    const double visited = work.visited + work.items * static_cast<double>(size.warpgroups * tiles_of_extra);
    const double masked = tile_volume == size.columns ? visited - work.unmasked : visited;
    cost.visited_multiply_adds += multiply_adds_of_pass(grid, method, size, passes[pass], visited * slots);
    cost.masked_multiply_adds += multiply_adds_of_pass(grid, method, size, passes[pass], masked * slots);
    const Dealt deal = dealt(items, method, tiling, size, passes[pass]);
    idling[pass] = model.idling(deal.unevenness);
    shared = deal.shared;
    const std::int64_t heads = passes[pass] == RowKind::queries ? grid.heads : grid.heads_kv;
    cost.work_items += static_cast<double>(grid.batch * heads) / joined_heads(method) * work.items;
  }
  if (method == Method::backward) {
    // The gradients of extra tokens come from a kernel of their own.
    const double extra_pairs = static_cast<double>(grid.tokens()) * static_cast<double>(grid.extra_kv);
    cost.visited_multiply_adds += 2 * multiply_adds(grid, Operation::forward, extra_pairs);
  }
  cost.seconds = model.seconds(std::span(works).first(passes.size()), tiling.key_tile, idling, shared);
  return cost;
}

/// How items are made up and ordered (`WorkItem`), and dealt to blocks, in words.
std::string explain_order(const Problem& grid, Method method, const Tiling& tiling) {
  const KernelClass& size = *class_of(grid, method, volume(tiling.block));
  const Problem items = joined(grid, method);
  const TiledGrid any_rows(items, tiling);  // tiles along axes are as many where keys are kept
  std::string text = "1 warpgroup";
  if (size.warpgroups > 1) {
    text = fmt::format("{} warpgroups side by side along axis {}", size.warpgroups, any_rows.split_axis);
  }
  std::vector<std::string> loops;
  for (int loop = 2; loop >= 0; --loop) {
    const int axis = any_rows.loop_axis(loop);
    if (any_rows.axes[axis].tiles > 1) loops.push_back(fmt::format("tiles along axis {}", axis));
  }
  if (phase_count(grid) > 1) loops.emplace_back("dilation groups");
  loops.emplace_back("heads");
  text += fmt::format("; {}", fmt::join(loops, ", then "));
  for (const RowKind rows : passes_of(method)) {
    const TiledGrid tiled(items, tiling, rows);
    const bool from_the_end = std::ranges::any_of(tiled.axes, [](const TiledAxis& a) { return a.first_origin > 0; });
    text += is_forward(method) ? "; " : rows == RowKind::queries ? "; over queries " : "; over keys ";
    text += deal_of(tiled, method, size, rows).dealing == Dealing::by_the_device
                ? "by the device, a block for each item"
                : fmt::format("in turns to {} blocks", std::min(tiled.items, size.blocks * kMultiprocessors));
    if (from_the_end) text += ", causal axes from the end";
  }
  return text;
}

/// Looks at tilings that the search has found more closely than it does: at more blocks of each axis, and at how items
/// come to the blocks of the device.
class Closer {
 public:
  /// Looks at so many blocks of each part of an axis.
  Closer(const Problem& grid, Method method, int most_blocks)
      : grid_(grid), items_(joined(grid, method)), method_(method) {
    spans_.reserve(kMostPasses);
    known_.reserve(32);
    for (const RowKind rows : passes_of(method)) {
      spans_.emplace_back(grid, rows, PerAxis<int>{most_blocks, most_blocks, most_blocks});
    }
  }

  [[nodiscard]] double seconds(const Tiling& tiling) {
    const KernelClass& size = *class_of(grid_, method_, volume(tiling.block));
    const CostModel& model = model_of(size);
    const std::span<const RowKind> passes = passes_of(method_);
    std::array<Work, kMostPasses> works;
    std::array<double, kMostPasses> idling{};
    bool shared = false;
    for (std::size_t pass = 0; pass < passes.size(); ++pass) {
      for (int a = 0; a < 3; ++a) {
        const Spans::Boxes& boxes = boxes_of(pass, a, tiling.query_tile[a], tiling.block[a]);
        works[pass] *= spans_[pass].work(boxes, tiling.key_tile[a]);
      }
      const Dealt deal = dealt(items_, method_, tiling, size, passes[pass]);
      idling[pass] = model.idling(deal.unevenness);
      shared = deal.shared;
      if (deal.items <= kMostUnevenItems) played_ += deal.items;
    }
    return model.seconds(std::span(works).first(passes.size()), tiling.key_tile, idling, shared);
  }
  /// Items so far.
  [[nodiscard]] int played() const { return played_; }

 private:
  struct Known {
    std::size_t pass;
    int axis;
    std::int64_t box, boxes;
    Spans::Boxes all;
  };
  /// All boxes of one size; of most tilings they have been asked for before.
  const Spans::Boxes& boxes_of(std::size_t pass, int axis, std::int64_t box, std::int64_t boxes) {
    for (const Known& known : known_) {
      if (known.box == box && known.boxes == boxes && known.axis == axis && known.pass == pass) return known.all;
    }
    known_.push_back({pass, axis, box, boxes, spans_[pass].add(axis, box, boxes)});
    return known_.back().all;
  }

  const CostModel& model_of(const KernelClass& size) {
    if (&size == size_ && model_) return *model_;
    size_ = &size;
    return model_.emplace(grid_, method_, size);
  }

  const Problem& grid_;
  Problem items_;
  Method method_;
  const KernelClass* size_ = nullptr;  // of the last tiling
  std::optional<CostModel> model_;     // of that size
  std::vector<Spans> spans_;           // by pass
  std::vector<Known> known_;
  int played_ = 0;
};

/// Whether blocks may share tiles since their queries see all of an axis.
bool sees_whole_axis(const Problem& grid, Method method) {
  if (method != Method::forward || !may_share_columns(*class_of(grid, method, 2))) return false;
  for (int a = 0; a < 3; ++a) {
    if (grid.layout[a] > 1 && grid.window[a] == grid.layout[a] && !grid.causal[a]) return true;
  }
  return false;
}

/// The search only estimates how evenly items come to blocks, looks at some blocks of an axis for all, and does not
/// know that blocks share tiles. Where items are few or whole axes are seen, the next tilings are looked at more
/// closely; where one is wanted, until they would take clearly longer.
std::vector<Tiling> tilings(const Problem& grid, Method method, std::size_t count) {
  constexpr double kClearly = 1.05;
  constexpr int kSomeBlocks = 32;                             // twice as many as the search looks at, or more
  const int most_played = is_forward(method) ? 3000 : 12000;  // items, 3 ns each; training waits for a plan once
  const bool close = has_few_items(grid, method) || sees_whole_axis(grid, method);
  std::vector<Estimate> found = best_tilings(grid, method, close ? std::max(count, kFewTilings) : count);
  if (close) {
    Closer closer(grid, method, count == 1 ? kSomeBlocks : kMostBlocks);
    double least = std::numeric_limits<double>::infinity();
    double before = 0;  // what the last was estimated at, and what it takes
    double seconds = 0;
    double least_share = std::numeric_limits<double>::infinity();  // of an estimate: much of its error is of all
    std::size_t looked_at = 0;
    for (Estimate& estimate : found) {
      const bool clear = looked_at > 0 && estimate.seconds * least_share >= least * kClearly;
      if (count == 1 && (clear || closer.played() >= most_played)) break;
      // Boxes of which some rows hold no token may be as many, and see as much, as others.
      if (estimate.seconds != before) seconds = closer.seconds(estimate.tiling);
      before = std::exchange(estimate.seconds, seconds);
      least = std::min(least, seconds);
      least_share = std::min(least_share, seconds / before);
      ++looked_at;
    }
    found.resize(looked_at);
    // Of equal ones those first that the search prefers.
    std::ranges::sort(found, {}, [](const Estimate& e) { return std::pair(e.seconds, -e.tiling.key_tile[2]); });
  }
  found.resize(std::min(count, found.size()));
  std::vector<Tiling> tilings(found.size());
  std::ranges::transform(found, tilings.begin(), &Estimate::tiling);
  return tilings;
}

}  // namespace

Status forward_supports(const Problem& grid) { return supports(grid, Method::forward); }

Status forward_pairs_supports(const Problem& grid) {
  constexpr std::int64_t kDim = kForwardPairsClasses.front().dim;
  if (grid.dim != kDim || grid.dim_v != kDim) {
    return Status::refuse(fmt::format("dim = {}, dim_v = {}; allowed: {}", grid.dim, grid.dim_v, kDim));
  }
  if (grid.heads != grid.heads_kv || grid.heads % kPairedHeads != 0) {
    return Status::refuse(
        fmt::format("heads = {}, heads_kv = {}; allowed: the same even number", grid.heads, grid.heads_kv));
  }
  return supports(grid, Method::forward_pairs);
}

Status backward_supports(const Problem& grid) { return supports(grid, Method::backward); }

Status backward_one_pass_supports(const Problem& grid) {
  if (grid.extra_kv > 0) return Status::refuse(fmt::format("extra_kv = {}; allowed: 0", grid.extra_kv));
  constexpr double kLeastScale = 1e-30;  // the kernel divides by it
  if (std::abs(grid.effective_scale()) < kLeastScale) {
    return Status::refuse(fmt::format("scale = {}; allowed: magnitudes from {}", grid.effective_scale(), kLeastScale));
  }
  return supports(grid, Method::backward_one_pass);
}

Status forward_accepts(const Problem& grid, const Tiling& tiling) { return accepts(grid, Method::forward, tiling); }

Status forward_pairs_accepts(const Problem& grid, const Tiling& tiling) {
  return accepts(grid, Method::forward_pairs, tiling);
}

Status backward_accepts(const Problem& grid, const Tiling& tiling) { return accepts(grid, Method::backward, tiling); }

Status backward_one_pass_accepts(const Problem& grid, const Tiling& tiling) {
  return accepts(grid, Method::backward_one_pass, tiling);
}

Tiling forward_tiling(const Problem& grid) { return forward_tilings(grid, 1).front(); }

Tiling forward_pairs_tiling(const Problem& grid) { return forward_pairs_tilings(grid, 1).front(); }

Tiling backward_tiling(const Problem& grid) { return backward_tilings(grid, 1).front(); }

Tiling backward_one_pass_tiling(const Problem& grid) { return backward_one_pass_tilings(grid, 1).front(); }

std::vector<Tiling> forward_tilings(const Problem& grid, std::size_t count) {
  return tilings(grid, Method::forward, count);
}

std::vector<Tiling> forward_pairs_tilings(const Problem& grid, std::size_t count) {
  return tilings(grid, Method::forward_pairs, count);
}

std::vector<Tiling> backward_tilings(const Problem& grid, std::size_t count) {
  return tilings(grid, Method::backward, count);
}

std::vector<Tiling> backward_one_pass_tilings(const Problem& grid, std::size_t count) {
  return tilings(grid, Method::backward_one_pass, count);
}

std::string forward_copies(const Problem& grid, const Tiling& tiling) {
  const KernelClass& size = *class_of(grid, Method::forward, volume(tiling.block));
  const bool shared = dealt(joined(grid, Method::forward), Method::forward, tiling, size, RowKind::queries).shared;
  return explain_copies(grid) + (shared ? ", each key tile for two blocks" : "");
}

std::string forward_order(const Problem& grid, const Tiling& tiling) {
  return explain_order(grid, Method::forward, tiling);
}

std::string forward_pairs_order(const Problem& grid, const Tiling& tiling) {
  return explain_order(grid, Method::forward_pairs, tiling);
}

std::string backward_order(const Problem& grid, const Tiling& tiling) {
  return explain_order(grid, Method::backward, tiling);
}

std::string backward_one_pass_order(const Problem& grid, const Tiling& tiling) {
  return explain_order(grid, Method::backward_one_pass, tiling);
}

Cost forward_cost(const Problem& grid, const Tiling& tiling) { return cost(grid, Method::forward, tiling); }

Cost forward_pairs_cost(const Problem& grid, const Tiling& tiling) { return cost(grid, Method::forward_pairs, tiling); }

Cost backward_cost(const Problem& grid, const Tiling& tiling) { return cost(grid, Method::backward, tiling); }

Cost backward_one_pass_cost(const Problem& grid, const Tiling& tiling) {
  return cost(grid, Method::backward_one_pass, tiling);
}

}  // namespace vicinal::cuda::sm90
