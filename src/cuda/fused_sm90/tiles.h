#pragma once

// The tiles of the Hopper kernels as data: which work there is, which tokens a tile holds, which keys a work item reads
// and which of a tile's columns a query may see. Host and device: the same functions are tested without a GPU.

#include <algorithm>
#include <cstdint>

#include "core/tiling.h"
#include "core/window.h"
#include "cuda/common/divisor.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

using Range = BasicInterval<int>;
using Window = BasicAxisWindow<int, Divisor<int>>;

VICINAL_HOST_DEVICE constexpr int smaller(int a, int b) { return a < b ? a : b; }
VICINAL_HOST_DEVICE constexpr int larger(int a, int b) { return a > b ? a : b; }
VICINAL_HOST_DEVICE constexpr int clamped(int x, int low, int high) { return smaller(larger(x, low), high); }

/// A box of tokens of one dilation phase as the rows of a tile in shared memory.
///
/// The copy engine moves one box of up to 256 tokens passed over along an axis, every d-th of them for d <= 8. Where a
/// dilated axis is beyond that, it is walked token by token, one box for each; those axes come first in the order of
/// the rows, so that the rows of a box follow each other.
struct TileShape {
  int extent[3];      ///< positions along each axis
  int row_stride[3];  ///< rows between neighbors along an axis
  int box[3];         ///< positions that one copy moves
  int volume;         ///< rows that hold tokens

  TileShape() = default;

  TileShape(const PerAxis<std::int64_t>& tile, const PerAxis<std::int64_t>& dilation) {
    constexpr int kMostPassedOver = 256;
    constexpr int kMostDilation = 8;
    volume = 1;
    for (const bool walked : {false, true}) {
      for (int a = 2; a >= 0; --a) {
        const bool walks =
            dilation[a] > 1 && tile[a] > 1 && (dilation[a] > kMostDilation || tile[a] * dilation[a] > kMostPassedOver);
        if (walks != walked) continue;
        extent[a] = static_cast<int>(tile[a]);
        box[a] = walks ? 1 : extent[a];
        row_stride[a] = volume;
        volume *= extent[a];
      }
    }
  }

  /// The position along `axis`, relative to the tile, of a row that holds a token.
  VICINAL_HOST_DEVICE constexpr int position(int axis, int row) const { return row / row_stride[axis] % extent[axis]; }

  /// Copies that fill the tile.
  VICINAL_HOST_DEVICE constexpr int copies() const { return volume / (box[0] * box[1] * box[2]); }
};

/// A row's position in its tile along the three axes, in one word; rows without a token are beyond every position.
class PackedPosition {
 public:
  PackedPosition() = default;
  VICINAL_HOST_DEVICE constexpr PackedPosition(const TileShape& tile, int row) {
    for (int a = 0; a < 3; ++a) {
      const int at = row < tile.volume ? tile.position(a, row) : kNowhere;
      bits_ |= static_cast<std::uint32_t>(at) << (8 * a);
    }
  }
  VICINAL_HOST_DEVICE constexpr int along(int axis) const { return static_cast<int>(bits_ >> (8 * axis)) & 0xFF; }
  VICINAL_HOST_DEVICE constexpr bool holds_token() const { return along(0) != kNowhere; }
  VICINAL_HOST_DEVICE constexpr std::uint32_t bits() const { return bits_; }  ///< a byte for each axis

 private:
  static constexpr int kNowhere = 0xFF;  // tiles have at most 128 rows
  std::uint32_t bits_ = 0;
};

/// One axis of the grid and the tiles along it, the same for all dilation groups.
struct TiledAxis {
  int extent;
  int dilation;
  int window;
  Divisor<int> stride;
  bool causal;
  int query_box;   ///< positions of the queries of one warpgroup
  int query_tile;  ///< of all warpgroups together
  Divisor<int> key_tile;
  Divisor<int> tiles;   ///< query tiles along the axis in the largest group
  Divisor<int> groups;  ///< = dilation

  VICINAL_HOST_DEVICE constexpr int members(int group) const { return group_members(extent, groups, group); }
  VICINAL_HOST_DEVICE constexpr Window in_group(int group) const { return {members(group), window, stride, causal}; }
};

/// Query tiles of all heads and batch entries; those that only the larger dilation groups fill counted for all.
std::int64_t work_items(const Problem& grid, const Tiling& tiling);

/// All work of a launch. A work item is a query tile of one head and batch entry: one box of queries for each
/// warpgroup, side by side along `split_axis`. Key tiles are laid from the corner of the halo of the whole query tile,
/// those along the split axis outermost, so that each warpgroup needs consecutive ones.
struct TiledGrid {
  TiledAxis axes[3];
  int split_axis;
  int warpgroups;
  Divisor<int> heads;
  Divisor<int> heads_per_kv;
  int batch;
  int extra_kv;
  TileShape queries;  ///< of one warpgroup
  TileShape keys;
  int items;

  TiledGrid() = default;
  TiledGrid(const Problem& grid, const Tiling& tiling);

  /// Axes from the outermost to the innermost loop over key tiles.
  VICINAL_HOST_DEVICE constexpr int loop_axis(int loop) const {
    return loop == 0 ? split_axis : (loop <= split_axis ? loop - 1 : loop);
  }
};

/// One work item.
struct WorkItem {
  int batch;
  int head;
  int group[3];
  int origin[3];  ///< the first query of the tile, a position in its group

  VICINAL_HOST_DEVICE WorkItem(const TiledGrid& grid, int item) {
    // Tiles fastest, so that those which run together share the keys of their halos.
    for (int a = 2; a >= 0; --a) {
      const int rest = item / grid.axes[a].tiles;
      origin[a] = (item - rest * grid.axes[a].tiles) * grid.axes[a].query_tile;
      item = rest;
    }
    for (int a = 2; a >= 0; --a) {
      const int rest = item / grid.axes[a].groups;
      group[a] = item - rest * grid.axes[a].groups;
      item = rest;
    }
    batch = item / grid.heads;
    head = item - batch * grid.heads;
  }
};

/// One axis of a work item, as one warpgroup sees it. Tiles along the axis are numbered from the corner of the halo.
struct AxisShare {
  Range queries;   ///< of the warpgroup; may be none
  int halo_begin;  ///< where key tiles are laid from
  int key_tiles;   ///< none where a smaller dilation group has no such query tile
  Range needed;    ///< tiles of which some query of the warpgroup sees a key
  Range unmasked;  ///< tiles of which all queries of the warpgroup see all keys

  AxisShare() = default;
  /// Of the warpgroup with the `box`-th box of the query tile at `origin`.
  VICINAL_HOST_DEVICE AxisShare(const TiledAxis& axis, int group, int origin, int box)
      : queries{0, 0}, halo_begin(0), key_tiles(0), needed{0, 0}, unmasked{0, 0} {
    const Window window = axis.in_group(group);
    const int end = smaller(origin + axis.query_tile, window.members);
    if (origin >= end) return;
    halo_begin = window.keys_of(origin).begin;
    key_tiles = tiles_up_to(axis, window.keys_of(end - 1).end);
    const int first_query = origin + box * axis.query_box;
    if (first_query >= end) return;
    queries = {first_query, smaller(first_query + axis.query_box, end)};
    const Range first = window.keys_of(queries.begin);
    const Range last = window.keys_of(queries.end - 1);
    needed = {(first.begin - halo_begin) / axis.key_tile, tiles_up_to(axis, last.end)};
    unmasked = {tiles_up_to(axis, last.begin), (first.end - halo_begin) / axis.key_tile};
  }

 private:
  VICINAL_HOST_DEVICE constexpr int tiles_up_to(const TiledAxis& axis, int key) const {
    return (key - halo_begin + axis.key_tile - 1) / axis.key_tile;
  }
};

/// The axes of a work item as warpgroup `warpgroup` sees it.
VICINAL_HOST_DEVICE inline AxisShare axis_share(const TiledGrid& grid, int axis, int group, int origin, int warpgroup) {
  return {grid.axes[axis], group, origin, axis == grid.split_axis ? warpgroup : 0};
}

/// Walks the key tiles of the grid, the last loop fastest.
struct KeyTileCursor {
  int at[3];  ///< tile along each loop

  VICINAL_HOST_DEVICE constexpr void next(int count1, int count2) {
    if (++at[2] < count2) return;
    at[2] = 0;
    if (++at[1] < count1) return;
    at[1] = 0;
    ++at[0];
  }

  /// Tile along an axis of the grid.
  VICINAL_HOST_DEVICE constexpr int along(const TiledGrid& grid, int axis) const {
    return axis == grid.split_axis ? at[0] : (axis == grid.loop_axis(1) ? at[1] : at[2]);
  }
};

/// Keys that a row sees along an axis, relative to the halo. Rows without a query repeat the last.
VICINAL_HOST_DEVICE constexpr Range keys_of_row(const Window& window, Range queries, int halo_begin, int position) {
  const Range keys = window.keys_of(smaller(queries.begin + position, queries.end - 1));
  return {keys.begin - halo_begin, keys.end - halo_begin};
}

/// The key tiles of a work item, those of the grid first, then extra tokens, and a warpgroup's share of them: which it
/// attends to, and which it lets pass.
struct Share {
  int total;
  int skipped_before, attended, skipped_after, extra;
  int count[2];  ///< tiles along the inner loops

  Share() = default;
  /// From the number of key tiles along each axis and what the warpgroup sees along the split axis.
  VICINAL_HOST_DEVICE Share(const TiledGrid& grid, const int (&key_tiles)[3], Range needed) {
    const int outermost = grid.split_axis == 0 ? key_tiles[0] : (grid.split_axis == 1 ? key_tiles[1] : key_tiles[2]);
    count[0] = grid.split_axis == 0 ? key_tiles[1] : key_tiles[0];
    count[1] = grid.split_axis == 2 ? key_tiles[1] : key_tiles[2];
    const int plane = count[0] * count[1];
    const int tiles = outermost * plane;
    extra = tiles == 0 ? 0 : (grid.extra_kv + grid.keys.volume - 1) / grid.keys.volume;
    total = tiles + extra;
    skipped_before = needed.begin * plane;
    attended = needed.size() * plane;
    skipped_after = tiles - needed.end * plane;
  }

  /// Tiles of the grid.
  VICINAL_HOST_DEVICE int tiles() const { return total - extra; }
  /// Whether the warpgroup has no queries.
  VICINAL_HOST_DEVICE bool idle() const { return attended == 0; }
};

/// What a warpgroup is to know of a key tile.
struct alignas(16) TileNote {
  /// Bits of `what`: 1 << axis where some rows do not see the tile whole along that axis, ...
  static constexpr int kShort = 1 << 3;   ///< ... not all columns hold tokens: bits 8 to 15 count those that do,
  static constexpr int kSigned = 1 << 4;  ///< scores are to be multiplied by the sign of the scale.

  int what;
  int begin[3];  ///< of the tile along each axis, relative to the halo

  /// Tile `number` of the work item; `masked` has the bits of the axes.
  VICINAL_HOST_DEVICE static int make(const TiledGrid& grid, const Share& share, int number, int columns, int masked) {
    const int extra_tile = number - share.tiles();
    int filled = grid.keys.volume;
    if (extra_tile >= 0) filled = smaller(grid.extra_kv - extra_tile * grid.keys.volume, filled);
    const int is_short = filled < columns ? kShort : 0;
    return masked | is_short | filled << 8;
  }

  /// Whether scores are to be changed before the softmax.
  VICINAL_HOST_DEVICE static constexpr bool touched(int what) { return (what & (kShort | kSigned | 7)) != 0; }
};

/// Which columns of a key tile a thread of the matrix product may keep.
///
/// A thread holds, of each of its rows, columns 8 j + 2 l + e for its lane l of four and e of {0, 1}: bit 2 j + e of a
/// mask. Along each axis a row sees an interval of the tile's positions, so its mask is the intersection over the axes
/// of differences of prefixes: the columns whose position is below t. The prefixes depend on the tile's shape alone and
/// are made once.
template <int kColumns>
struct ColumnMasks {
  static_assert(kColumns % 8 == 0 && kColumns <= 128);
  static constexpr int kLanes = 4;
  static constexpr int kBits = kColumns / kLanes;
  /// One for every position and the end of each axis, three axes' products being at most kColumns, and one for every
  /// count of columns.
  static constexpr int kAxisPrefixes = kColumns + 5;
  static constexpr int kPrefixes = kAxisPrefixes + kColumns + 1;

  std::uint32_t prefix[kPrefixes][kLanes];

  VICINAL_HOST_DEVICE static constexpr int column(int lane, int bit) { return 8 * (bit / 2) + 2 * lane + bit % 2; }

  /// One entry of the table; `positions` are those of the tile's kColumns rows.
  VICINAL_HOST_DEVICE static std::uint32_t make(const TileShape& tile, const PackedPosition* positions, int entry,
                                                int lane) {
    const bool counts = entry >= kAxisPrefixes;
    int axis = 0;
    int below = counts ? entry - kAxisPrefixes : entry;
    while (!counts && axis < 2 && below > tile.extent[axis]) below -= tile.extent[axis++] + 1;
    std::uint32_t bits = 0;
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
    for (int bit = 0; bit < kBits; ++bit) {
      const int c = column(lane, bit);
      const int at = counts ? c : positions[c].along(axis);
      bits |= static_cast<std::uint32_t>(at < below) << bit;
    }
    return bits;
  }

  VICINAL_HOST_DEVICE std::uint32_t first_columns(int count, int lane) const {
    return prefix[kAxisPrefixes + count][lane];
  }

  /// Columns at positions of `keys` relative to the tile; `table` is where the prefixes of the axis begin.
  VICINAL_HOST_DEVICE std::uint32_t along(int table, int extent, Range keys, int lane) const {
    return prefix[table + clamped(keys.end, 0, extent)][lane] & ~prefix[table + clamped(keys.begin, 0, extent)][lane];
  }

  /// Columns that two rows see of a key tile. `keys(row, axis)` are those that the first or the second sees along an
  /// axis, relative to the halo.
  template <class Keys>
  VICINAL_HOST_DEVICE void visible(const TiledGrid& grid, const TileNote& note, Keys keys, int lane,
                                   std::uint32_t (&columns)[2]) const {
    columns[0] = columns[1] = (note.what & TileNote::kShort) == 0 ? ~0U : first_columns(note.what >> 8 & 0xFF, lane);
    int table = 0;
    for (int a = 0; a < 3; ++a) {
      const int tile = grid.axes[a].key_tile;
      if ((note.what >> a & 1) != 0) {
        for (int r = 0; r < 2; ++r) {
          const Range seen = keys(r, a);
          columns[r] &= along(table, tile, {seen.begin - note.begin[a], seen.end - note.begin[a]}, lane);
        }
      }
      table += tile + 1;
    }
  }
};

}  // namespace vicinal::cuda::sm90
