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

  /// Copies of the pointers that mask loops read, so that stores to scores cannot be thought to change them.
  struct Masks {
    const std::int32_t* run_of;
    const std::int32_t* offset_of;
    const C* runs;
    const C* offsets;

    /// Where the masks of key j start in the two tables.
    [[nodiscard]] HWY_INLINE const C* run(std::int64_t j) const { return runs + run_of[j] * kLanes; }
    [[nodiscard]] HWY_INLINE const C* offset(std::int64_t j) const { return offsets + offset_of[j] * kLanes; }
  };

  /// The masks of the keys from `first` on.
  [[nodiscard]] Masks masks(std::int64_t first) const {
    return {run_of_ + first, offset_of_ + first, run_masks_, offset_masks_};
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
          hn::Store(
              hn::And(hn::Load(d, axis_masks_[0] + x * kLanes + lane), hn::Load(d, axis_masks_[1] + y * kLanes + lane)),
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

/// Tokens about to be read or written, in order. Tokens of one head lie far apart in heads-last memory, where hardware
/// does not prefetch them: visiting a token asks for the cache lines of one a few places on.
template <class Element>
class TokenList {
 public:
  void carve(Carver& carver, std::int64_t capacity) { tokens_ = carver.take<Element*>(capacity); }

  void clear(std::int64_t width) {
    width_ = width;
    count_ = 0;
  }

  void add(const PhaseView<Element>& tensor, const Box& box) {
    for (std::int64_t x = box.axes[0].begin; x < box.axes[0].end; ++x) {
      for (std::int64_t y = box.axes[1].begin; y < box.axes[1].end; ++y) {
        Element* token = tensor.at(x, y, box.axes[2].begin);
        for (std::int64_t z = box.axes[2].size(); z > 0; --z, token += tensor.stride[2]) tokens_[count_++] = token;
      }
    }
  }

  [[nodiscard]] std::int64_t count() const { return count_; }

  [[nodiscard]] HWY_INLINE Element* visit(std::int64_t i) const {
    constexpr std::int64_t kAhead = 6;
    constexpr auto kLine = static_cast<std::int64_t>(kAlignment / sizeof(Element));
    if (i + kAhead < count_) {
      for (std::int64_t e = 0; e < width_; e += kLine) hwy::Prefetch(tokens_[i + kAhead] + e);
    }
    return tokens_[i];
  }

 private:
  Element** tokens_ = nullptr;
  std::int64_t width_ = 0;  // elements of a token
  std::int64_t count_ = 0;
};

/// Copies tokens [first, first + count) of a list to rows [count][pitch] in compute type.
template <class Element>
void load_rows(const TokenList<const Element>& tokens, std::int64_t first, std::int64_t count, std::int64_t width,
               std::int64_t pitch, Compute<Element>* rows) {
  for (std::int64_t i = 0; i < count; ++i) load_row(tokens.visit(first + i), rows + i * pitch, width);
}

/// Copies a box of tokens to rows [volume][width] in compute type.
template <class Element>
void stage(const PhaseView<const Element>& tensor, const Box& box, std::int64_t width, TokenList<const Element>& tokens,
           Compute<Element>* rows) {
  tokens.clear(width);
  tokens.add(tensor, box);
  load_rows<Element>(tokens, 0, tokens.count(), width, width, rows);
}

/// Copies the tokens of consecutive query tiles to rows [16][pitch] in compute type, rows that hold no query being
/// zero, and calls use(t, rows) after each tile, for rows at row_of(t).
template <class Element, class RowOf, class Use>
void load_query_tiles(const PhaseView<const Element>& tensor, const TileGeometry* tiles, std::int64_t tile_count,
                      std::int64_t width, std::int64_t pitch, TokenList<const Element>& tokens, RowOf row_of, Use use) {
  tokens.clear(width);
  for (std::int64_t t = 0; t < tile_count; ++t) tokens.add(tensor, tiles[t].queries);
  std::int64_t first = 0;
  for (std::int64_t t = 0; t < tile_count; ++t) {
    Compute<Element>* rows = row_of(t);
    const std::int64_t volume = tiles[t].queries.volume();
    load_rows<Element>(tokens, first, volume, width, pitch, rows);
    std::fill_n(rows + volume * pitch, (kLanes - volume) * pitch, Compute<Element>{0});
    use(t, rows);
    first += volume;
  }
}

/// Writes row i of rows_of(t), times factor_of(t, i), to token i of every query tile t.
template <class Element, class RowsOf, class FactorOf>
void store_query_tiles(const PhaseView<Element>& tensor, const TileGeometry* tiles, std::int64_t tile_count,
                       std::int64_t width, std::int64_t pitch, TokenList<Element>& tokens, RowsOf rows_of,
                       FactorOf factor_of) {
  tokens.clear(width);
  for (std::int64_t t = 0; t < tile_count; ++t) tokens.add(tensor, tiles[t].queries);
  std::int64_t token = 0;
  for (std::int64_t t = 0; t < tile_count; ++t) {
    const Compute<Element>* rows = rows_of(t);
    for (std::int64_t i = 0; i < tiles[t].queries.volume(); ++i) {
      store_row<Element>(rows + i * pitch, factor_of(t, i), tokens.visit(token++), width);
    }
  }
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
