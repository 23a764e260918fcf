// Query tiles and staged key tiles, shared by the forward and the backward kernel; compiled once per SIMD target.

#if defined(VICINAL_CPU_FUSED_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VICINAL_CPU_FUSED_TILE_INL_H_
#undef VICINAL_CPU_FUSED_TILE_INL_H_
#else
#define VICINAL_CPU_FUSED_TILE_INL_H_
#endif

#include <hwy/cache_control.h>

#include "cpu/fused/schedule.h"
#include "cpu/fused/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vicinal::cpu::HWY_NAMESPACE {

inline constexpr double kLog2e = 1.44269504088896340736;
inline constexpr double kLn2 = 0.693147180559945309417;

/// Where a query tile lies.
struct TileGeometry {
  Box queries;
  Box halo;    // keys that some query attends to
  Box common;  // keys that every query attends to

  TileGeometry() = default;
  TileGeometry(const PhaseGrid& grid, const Box& box) : queries(box), halo(grid.halo(box)) {
    for (int a = 0; a < 3; ++a) common.axes[a] = common_keys(grid.axes[a], box.axes[a]);
  }

  [[nodiscard]] bool all_attend(const Box& keys) const {
    for (int a = 0; a < 3; ++a) {
      if (keys.axes[a].begin < common.axes[a].begin || keys.axes[a].end > common.axes[a].end) return false;
    }
    return true;
  }
};

/// Which rows of a staged key tile a query tile uses, and the masks of those keys.
template <class C>
class KeyList {
 public:
  void carve(Carver& carver, const PerAxis<std::int64_t>& key_tile) {
    const std::int64_t keys = key_tile[0] * key_tile[1] * key_tile[2];
    rows_ = carver.take<std::int32_t>(keys);
    run_of_ = carver.take<std::int32_t>(keys);
    offset_of_ = carver.take<std::int32_t>(keys);
    run_masks_ = carver.take<C>(key_tile[0] * key_tile[1] * kLanes);
    offset_masks_ = carver.take<C>(key_tile[2] * kLanes);
    axis_masks_[0] = carver.take<C>(key_tile[0] * kLanes);
    axis_masks_[1] = carver.take<C>(key_tile[1] * kLanes);
  }

  /// The part of the staged box `keys` that the tile needs.
  void select(const PhaseGrid& grid, const TileGeometry& tile, const Box& keys) {
    const Box needed = intersect(tile.halo, keys);
    count_ = 0;
    masked_ = false;
    if (needed.volume() == 0) return;
    masked_ = !tile.all_attend(needed);
    const std::int64_t row_y = keys.axes[2].size();
    const std::int64_t row_x = keys.axes[1].size() * row_y;
    std::int32_t run = 0;
    for (std::int64_t x = needed.axes[0].begin; x < needed.axes[0].end; ++x) {
      for (std::int64_t y = needed.axes[1].begin; y < needed.axes[1].end; ++y, ++run) {
        const std::int64_t first = (x - keys.axes[0].begin) * row_x + (y - keys.axes[1].begin) * row_y +
                                   needed.axes[2].begin - keys.axes[2].begin;
        const auto length = static_cast<std::int32_t>(needed.axes[2].size());
        for (std::int32_t z = 0; z < length; ++z, ++count_) {
          rows_[count_] = static_cast<std::int32_t>(first) + z;
          run_of_[count_] = run;
          offset_of_[count_] = z;
        }
      }
    }
    if (masked_) fill_masks(grid, tile.queries, needed);
  }

  /// The first `count` rows of a staged tile, unmasked: extra tokens.
  void select_all(std::int64_t count) {
    masked_ = false;
    for (count_ = 0; count_ < count; ++count_) rows_[count_] = static_cast<std::int32_t>(count_);
  }

  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] bool masked() const { return masked_; }
  [[nodiscard]] const std::int32_t* rows() const { return rows_; }

  /// Vector v of the mask of key j over the lanes.
  [[nodiscard]] HWY_INLINE auto mask(std::int64_t j, int v) const {
    const Tag<C> d;
    const std::int64_t lane = v * static_cast<std::int64_t>(hn::Lanes(d));
    return hn::MaskFromVec(hn::And(hn::Load(d, run_masks_ + run_of_[j] * kLanes + lane),
                                   hn::Load(d, offset_masks_ + offset_of_[j] * kLanes + lane)));
  }

 private:
  void fill_masks(const PhaseGrid& grid, const Box& queries, const Box& needed) {
    const std::array<C*, 3> tables{axis_masks_[0], axis_masks_[1], offset_masks_};
    for (int a = 0; a < 3; ++a) {
      std::array<Interval, kLanes> keys;  // of each position along the axis
      const std::int64_t first = queries.axes[a].begin;
      for (std::int64_t i = 0; i < queries.axes[a].size(); ++i) {
        keys[static_cast<std::size_t>(i)] = intersect(grid.axes[a].keys_of(first + i), needed.axes[a]);
      }
      HWY_ALIGN C begin[kLanes] = {};  // of each lane, counted from the first needed key; empty where there is no query
      HWY_ALIGN C end[kLanes] = {};
      for_each_position(queries, [&](std::int64_t x, std::int64_t y, std::int64_t z, std::int64_t lane) {
        const Interval& of = keys[static_cast<std::size_t>((a == 0 ? x : a == 1 ? y : z) - first)];
        begin[lane] = static_cast<C>(of.begin - needed.axes[a].begin);
        end[lane] = static_cast<C>(of.end - needed.axes[a].begin);
      });
      fill_mask_table(needed.axes[a].size(), begin, end, tables[static_cast<std::size_t>(a)]);
    }
    const Tag<C> d;
    const auto step = static_cast<std::int64_t>(hn::Lanes(d));
    C* run = run_masks_;
    for (std::int64_t x = 0; x < needed.axes[0].size(); ++x) {
      for (std::int64_t y = 0; y < needed.axes[1].size(); ++y, run += kLanes) {
        for (std::int64_t lane = 0; lane < kLanes; lane += step) {
          hn::Store(hn::And(hn::Load(d, axis_masks_[0] + x * kLanes + lane),
                            hn::Load(d, axis_masks_[1] + y * kLanes + lane)),
                    d, run + lane);
        }
      }
    }
  }

  std::int64_t count_ = 0;
  bool masked_ = false;
  std::int32_t* rows_ = nullptr;       // [count] rows of the staged tile
  std::int32_t* run_of_ = nullptr;     // [count] (x, y) pair, counted from 0
  std::int32_t* offset_of_ = nullptr;  // [count] z, counted from 0
  C* run_masks_ = nullptr;             // [runs][16]
  C* offset_masks_ = nullptr;          // [z][16]
  std::array<C*, 2> axis_masks_{};     // [x][16], [y][16]
};

/// Asks for the cache lines of a token that is about to be read or written.
template <class Element>
HWY_INLINE void prefetch_row(const Element* row, std::int64_t width) {
  constexpr std::int64_t kLineElements = static_cast<std::int64_t>(kAlignment / sizeof(Element));
  for (std::int64_t i = 0; i < width; i += kLineElements) hwy::Prefetch(row + i);
}

/// Copies a box of tokens to rows [volume][pitch] in compute type. Tokens of one head lie far apart in heads-last
/// memory, where hardware does not prefetch them, so each copy asks for the token a few places on.
template <class Element>
void load_rows(const PhaseView<const Element>& tensor, const Box& box, std::int64_t width, std::int64_t pitch,
               Compute<Element>* rows) {
  constexpr std::int64_t kAhead = 6;
  for (std::int64_t x = box.axes[0].begin; x < box.axes[0].end; ++x) {
    for (std::int64_t y = box.axes[1].begin; y < box.axes[1].end; ++y) {
      const std::int64_t count = box.axes[2].size();
      const Element* run = tensor.at(x, y, box.axes[2].begin);
      const Element* next_run = y + 1 < box.axes[1].end ? run + tensor.stride[1] : run + tensor.stride[0];
      const bool last_run = y + 1 == box.axes[1].end && x + 1 == box.axes[0].end;
      for (std::int64_t z = 0; z < count; ++z, rows += pitch) {
        const std::int64_t ahead = z + kAhead;
        if (ahead < count) {
          prefetch_row(run + ahead * tensor.stride[2], width);
        } else if (!last_run && ahead - count < count) {
          prefetch_row(next_run + (ahead - count) * tensor.stride[2], width);
        }
        load_row(run + z * tensor.stride[2], rows, width);
      }
    }
  }
}

/// Copies the tokens of a query tile to rows [16][pitch] in compute type; rows that hold no query are zero.
template <class Element>
void load_query_rows(const PhaseView<const Element>& tensor, const Box& queries, std::int64_t width, std::int64_t pitch,
                     Compute<Element>* rows) {
  load_rows(tensor, queries, width, pitch, rows);
  const std::int64_t volume = queries.volume();
  std::fill_n(rows + volume * pitch, (kLanes - volume) * pitch, 0);
}

/// lanes[0, count)[16] *= factor.
template <class C>
HWY_INLINE void scale_lanes(C factor, std::int64_t count, C* lanes) {
  const Tag<C> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  const auto by = hn::Set(d, factor);
  for (std::int64_t i = 0; i < count * kLanes; i += step) hn::Store(hn::Mul(hn::Load(d, lanes + i), by), d, lanes + i);
}

}  // namespace vicinal::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
