#pragma once

// PN by tiles, for grids of two axes and head dim 32: a block copies a tile of queries and the keys of their halo to
// shared memory, then computes one weight per thread until all slots of the tile's queries are written. Rows in shared
// memory are 16 bytes longer than their elements, an odd number of accesses, so that consecutive keys lie in different
// banks.

#include <cstdint>

#include "core/tiling.h"
#include "cuda/common/grid.h"
#include "cuda/naive/pointwise.h"
#include "cuda/naive/types.h"
#include "vicinal/error.h"

namespace vicinal::cuda::naive {

inline constexpr int kTiledDim = 32;
inline constexpr std::int64_t kTiledWindowLeast = 3;
inline constexpr std::int64_t kTiledWindowMost = 13;
inline constexpr std::int64_t kSharedBytes = 49152;  // that every launch may ask for

/// Bytes of shared memory for the queries and keys of a tile.
inline std::int64_t tiled_shared_bytes(const Problem& grid, const PerAxis<std::int64_t>& tile) {
  const std::int64_t queries = tile[1] * tile[2];
  const std::int64_t keys = (tile[1] + grid.window[1] - 1) * (tile[2] + grid.window[2] - 1);
  return (queries + keys) * (kTiledDim * static_cast<std::int64_t>(size_of(grid.dtype)) + kAccessBytes);
}

template <class Types>
struct TiledPointwiseNeighborhood {
  using Index = typename Types::Index;
  using Element = typename Types::Element;
  using Weight = typename Types::Weight;
  using Sum = SumOf<Element>;
  static constexpr int kWidthOfRow = kWidth<Element>;
  static constexpr int kPitch = kTiledDim + kWidthOfRow;  // elements between rows in shared memory

  Grid<Index> grid;
  SlotSplitter<Index> window;
  Divisor<Index> slots;
  Divisor<Index> heads, groups[2], tiles[2];  // the axes of the numbering of tiles, tiles of the last axis fastest
  Divisor<Index> tile_row;                    // queries of a tile along the last axis
  Index tile[2];                              // queries of a tile
  Strided<const Element, Index> query;        // [B, 1, Y, Z, H, D]
  Strided<const Element, Index> key;          // [B, 1, Y, Z, G, D]
  Bias<Types> bias;                           // [H, 1, 2*window-1 of both axes]
  Strided<Weight, Index> weights;             // [B, 1, Y, Z, H, W]
  Sum scale;
  Weight masked;
  Index items;
  int shared_bytes;

  TiledPointwiseNeighborhood(const Problem& problem, const Tiling& tiling, const PointwiseNeighborhoodViews& t)
      : grid(problem),
        window(window_slots(problem)),
        slots(slots_per_query(problem)),
        heads(problem.heads),
        groups{Divisor<Index>(problem.dilation[1]), Divisor<Index>(problem.dilation[2])},
        tiles{tiles_of(problem, tiling, 1), tiles_of(problem, tiling, 2)},
        tile_row(tiling.query_tile[2]),
        tile{static_cast<Index>(tiling.query_tile[1]), static_cast<Index>(tiling.query_tile[2])},
        query(t.query),
        key(t.key),
        bias(t.bias),
        weights(t.weights),
        scale(static_cast<Sum>(problem.effective_scale())),
        masked(narrowed<Weight>(masked_score<Sum>(t.masked))),
        items(static_cast<Index>(problem.batch) * heads * groups[0] * groups[1] * tiles[0] * tiles[1]),
        shared_bytes(static_cast<int>(tiled_shared_bytes(problem, tiling.query_tile))) {}

  /// What a block works on.
  struct Tile {
    Place<Index> place;  // of the first query: batch and head count
    Index group[2];
    BasicInterval<Index> queries[2], keys[2];

    VICINAL_HOST_DEVICE bool empty() const { return queries[0].size() == 0 || queries[1].size() == 0; }
  };

  VICINAL_HOST_DEVICE Tile tile_at(Index item) const {
    Tile result;
    Index rest = item / tiles[1];
    const Index last = item - rest * tiles[1];
    Index outer = rest / tiles[0];
    const Index first = rest - outer * tiles[0];
    rest = outer / groups[1];
    result.group[1] = outer - rest * groups[1];
    outer = rest / groups[0];
    result.group[0] = rest - outer * groups[0];
    result.place.batch = outer / heads;
    result.place.head = outer - result.place.batch * heads;
    const Index begin[2] = {first * tile[0], last * tile[1]};
    for (int a = 0; a < 2; ++a) {
      const BasicAxisWindow<Index> axis = grid.axes[a + 1].group_window(result.group[a]);
      const Index end = begin[a] + tile[a];
      // Groups may differ by one member, so the last tile of a shorter one may be empty.
      result.queries[a] = {begin[a], end < axis.members ? end : axis.members};
      if (result.queries[a].size() == 0) continue;
      result.keys[a] = {axis.keys_of(result.queries[a].begin).begin, axis.keys_of(result.queries[a].end - 1).end};
    }
    return result;
  }

  /// Before: nobody reads `shared`. After: all threads must wait for each other.
  VICINAL_HOST_DEVICE void copy(const Tile& t, int thread, int threads, Element* shared) const {
    copy_rows(query, t.place.batch, t.place.head, t.group, t.queries, thread, threads, shared);
    copy_rows(key, t.place.batch, t.place.head / grid.heads_per_key_head, t.group, t.keys, thread, threads,
              shared + tile[0] * tile[1] * kPitch);
  }

  VICINAL_HOST_DEVICE void compute(const Tile& t, int thread, int threads, const Element* shared) const {
    const Element* keys = shared + tile[0] * tile[1] * kPitch;
    const Index key_row = t.keys[1].size();
    const Index query_row = t.queries[1].size();
    const Index count = tile[0] * tile[1] * slots;
    for (Index i = thread; i < count; i += threads) {
      const Index in_tile = i / slots;
      const Index slot = i - in_tile * slots;
      const Index row = in_tile / tile_row;
      const Index index[2] = {t.queries[0].begin + row, t.queries[1].begin + in_tile - row * tile_row};
      if (index[0] >= t.queries[0].end || index[1] >= t.queries[1].end) continue;
      Place<Index> at = t.place;
      at.token[0] = 0;
      Index in_axis[3];
      window.split(slot, in_axis);
      Index key_index[2];
      Index entry[3] = {0, 0, 0};
      bool attended = true;
      for (int a = 0; a < 2; ++a) {
        const Axis<Index>& axis = grid.axes[a + 1];
        at.token[a + 1] = axis.token(t.group[a], index[a]);
        const BasicInterval<Index> keys_of_query = axis.group_window(t.group[a]).keys_of(index[a]);
        attended = attended && !is_masked(keys_of_query, in_axis[a + 1]);
        key_index[a] = key_of_slot(keys_of_query, in_axis[a + 1]);
        entry[a + 1] = bias_index(axis.window, index[a], key_index[a]);
      }
      Weight* weight = weights.row(at) + slot;
      if (!attended) {
        *weight = masked;
        continue;
      }
      const Element* x = shared + (row * query_row + index[1] - t.queries[1].begin) * kPitch;
      const Element* y = keys + ((key_index[0] - t.keys[0].begin) * key_row + key_index[1] - t.keys[1].begin) * kPitch;
      *weight = narrowed<Weight>(scale * dot(x, y) + bias.at(at.head, entry));
    }
  }

 private:
  static Divisor<Index> tiles_of(const Problem& problem, const Tiling& tiling, int axis) {
    const std::int64_t members = group_members(problem.layout[axis], problem.dilation[axis], std::int64_t{0});
    return Divisor<Index>(ceil_div(members, tiling.query_tile[axis]));
  }

  VICINAL_HOST_DEVICE void copy_rows(const Strided<const Element, Index>& from, Index batch, Index head,
                                     const Index (&group)[2], const BasicInterval<Index> (&box_of)[2], int thread,
                                     int threads, Element* to) const {
    constexpr int kAccesses = kTiledDim / Types::kVector;  // of a row
    const Index width = box_of[1].size();
    const Index count = box_of[0].size() * width * kAccesses;
    for (Index i = thread; i < count; i += threads) {
      const Index token = i / kAccesses;
      const Index element = (i - token * kAccesses) * Types::kVector;
      const Index row = token / width;
      const Place<Index> at{batch,
                            {0, grid.axes[1].token(group[0], box_of[0].begin + row),
                             grid.axes[2].token(group[1], box_of[1].begin + token - row * width)},
                            head};
      store(to + token * kPitch + element, load<Types::kVector>(from.row(at) + element));
    }
  }

  VICINAL_HOST_DEVICE static Sum dot(const Element* a, const Element* b) {
    Sum sum = 0;
    for (int d = 0; d < kTiledDim; d += kWidthOfRow) {
      const auto x = load<kWidthOfRow>(a + d);
      const auto y = load<kWidthOfRow>(b + d);
      for (int i = 0; i < kWidthOfRow; ++i) sum += widened(x.values[i]) * widened(y.values[i]);
    }
    return sum;
  }
};

/// Why the tiled kernel cannot do a problem; success where it can.
Status tiled_supports(const Problem& grid);

/// The tile that copies the fewest rows for each query.
Tiling tiled_tiling(const Problem& grid);

Status tiled_accepts(const Problem& grid, const Tiling& forced);

}  // namespace vicinal::cuda::naive
