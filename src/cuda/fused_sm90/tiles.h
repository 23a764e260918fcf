#pragma once

// The tiles of the Hopper kernels as data: which work there is, which tokens a tile holds, which tokens a work item
// reads and which of a tile's columns a row may see. Host and device: the same functions are tested without a GPU.
//
// Rows are the tokens that a kernel keeps, columns those that pass by. The forward pass and the gradient of queries
// keep queries, which see keys; the gradients of keys and values keep keys, which see the queries that attend to them.

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

/// What the rows of a kernel are.
enum class RowKind : std::uint8_t { queries, keys };

/// Columns that a row sees along one axis of one dilation group; never empty, begin and end both monotone in the row.
template <RowKind kRows>
VICINAL_HOST_DEVICE constexpr Range seen_by(const Window& window, int row) {
  if constexpr (kRows == RowKind::queries)
    return window.keys_of(row);
  else
    return window.queries_of(row);
}

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
  int order[3];       ///< the axes, first that along which neighbors are next to each other
  int volume;         ///< rows that hold tokens
  int copies;         ///< that fill the tile

  TileShape() = default;

  /// Whether an axis of a tile is walked.
  static constexpr bool walks(std::int64_t extent, std::int64_t dilation) {
    constexpr int kMostPassedOver = 256;
    constexpr int kMostDilation = 8;
    return dilation > 1 && extent > 1 && (dilation > kMostDilation || extent * dilation > kMostPassedOver);
  }

  TileShape(const PerAxis<std::int64_t>& tile, const PerAxis<std::int64_t>& dilation) {
    volume = 1;
    int* next = order;
    for (const bool walked : {false, true}) {
      for (int a = 2; a >= 0; --a) {
        if (walks(tile[a], dilation[a]) != walked) continue;
        extent[a] = static_cast<int>(tile[a]);
        box[a] = walked ? 1 : extent[a];
        row_stride[a] = volume;
        volume *= extent[a];
        *next++ = a;
      }
    }
    copies = volume / (box[0] * box[1] * box[2]);
  }

  /// The position along `axis`, relative to the tile, of a row that holds a token.
  VICINAL_HOST_DEVICE constexpr int position(int axis, int row) const { return row / row_stride[axis] % extent[axis]; }
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
  int row_box;       ///< positions of the rows of one warpgroup
  int row_tile;      ///< of all warpgroups together, and of blocks that share column tiles
  int first_origin;  ///< where the first work item begins: of causal queries the last ones, which see the most keys
  int origin_step;   ///< from one work item to the next: a row tile, forward or backward
  Divisor<int> column_tile;
  Divisor<int> tiles;   ///< row tiles along the axis in the largest group
  Divisor<int> groups;  ///< = dilation

  VICINAL_HOST_DEVICE constexpr int members(int group) const { return group_members(extent, groups, group); }
  VICINAL_HOST_DEVICE constexpr Window in_group(int group) const { return {members(group), window, stride, causal}; }
};

/// Row tiles of all heads and batch entries; those that only the larger dilation groups fill counted for all.
std::int64_t work_items(const Problem& grid, const Tiling& tiling, RowKind rows = RowKind::queries);

/// All work of a launch. A work item is a row tile of one head and batch entry: one box of rows for each warpgroup,
/// side by side along `split_axis`; and as many for a second block, side by side with those along `shared_axis`, where
/// two blocks share column tiles. Column tiles are laid from the corner of the halo of the whole row tile, those
/// along the split axis outermost, so that each warpgroup needs consecutive ones.
///
/// Where rows are keys, boxes of keys have the shape of the tiling's query tile, and tiles of queries that of its key
/// tile; the heads are those of keys, and the tiles pass by once for each query head that shares one.
struct TiledGrid {
  TiledAxis axes[3];
  int split_axis;
  int warpgroups;   ///< of a block
  int sharers;      ///< blocks of a work item: 1, or 2 that pass over the same column tiles, which are copied once
  int shared_axis;  ///< of two; else none of the axes
  Divisor<int> heads;
  Divisor<int> heads_per_kv;
  int batch;
  int extra_kv;    ///< columns beyond the grid; none where rows are keys
  TileShape rows;  ///< of one warpgroup
  TileShape columns;
  int items;

  TiledGrid() = default;
  TiledGrid(const Problem& grid, const Tiling& tiling, RowKind kind = RowKind::queries);

  /// Makes two neighboring row tiles each work item, for two blocks, if along some axis rows of both see the same
  /// columns: all of them, or those of a window that as many rows share. Else nothing changes.
  void share_columns();

  /// Of the boxes of a row tile along an axis, that of a warpgroup of one of the sharers.
  VICINAL_HOST_DEVICE constexpr int box_along(int axis, int warpgroup, int sharer) const {
    const int boxes = axis == split_axis ? warpgroups : 1;  // of a block
    return (axis == split_axis ? warpgroup : 0) + (axis == shared_axis ? sharer * boxes : 0);
  }

  /// Axes from the outermost to the innermost loop over column tiles.
  VICINAL_HOST_DEVICE constexpr int loop_axis(int loop) const {
    return loop == 0 ? split_axis : (loop <= split_axis ? loop - 1 : loop);
  }
  /// Of numbers for each loop, that of an axis.
  VICINAL_HOST_DEVICE constexpr int of_axis(const int (&loops)[3], int axis) const {
    return axis == split_axis ? loops[0] : (axis == loop_axis(1) ? loops[1] : loops[2]);
  }
};

/// One work item.
struct WorkItem {
  int batch;
  int head;
  int group[3];
  int origin[3];  ///< the first row of the tile, a position in its group

  VICINAL_HOST_DEVICE WorkItem(const TiledGrid& grid, int item) {
    // Tiles fastest, so that those which run together share the columns of their halos. The split axis last: they pass
    // over their halos along it, and want the same part of it at the same time. Along causal axes long items of
    // a head come first, so that what is left for the last blocks is short.
    int at[3];
    for (int loop = 2; loop >= 0; --loop) {
      const TiledAxis& axis = grid.axes[grid.loop_axis(loop)];
      const int rest = item / axis.tiles;
      at[loop] = axis.first_origin + (item - rest * axis.tiles) * axis.origin_step;
      item = rest;
    }
    for (int a = 0; a < 3; ++a) origin[a] = grid.of_axis(at, a);
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
  Range rows;        ///< of the warpgroup; may be none
  int halo_begin;    ///< where column tiles are laid from
  int column_tiles;  ///< none where a smaller dilation group has no such row tile
  Range needed;      ///< tiles of which some row of the warpgroup sees a column
  Range unmasked;    ///< tiles of which all rows of the warpgroup see all columns
  int last_begun;    ///< the last tile in which what some row of the warpgroup sees begins
};

/// One axis of the work item with origin `origin` as a warpgroup of one of the sharers sees it.
template <RowKind kRows>
VICINAL_HOST_DEVICE inline AxisShare axis_share(const TiledGrid& grid, int axis_number, int group, int origin,
                                                int warpgroup, int sharer = 0) {
  const TiledAxis& axis = grid.axes[axis_number];
  const int box = grid.box_along(axis_number, warpgroup, sharer);
  AxisShare share{{0, 0}, 0, 0, {0, 0}, {0, 0}, 0};
  const Window window = axis.in_group(group);
  const int end = smaller(origin + axis.row_tile, window.members);
  if (origin >= end) return share;
  share.halo_begin = seen_by<kRows>(window, origin).begin;
  const auto tiles_up_to = [&](int column) {
    return (column - share.halo_begin + axis.column_tile - 1) / axis.column_tile;
  };
  share.column_tiles = tiles_up_to(seen_by<kRows>(window, end - 1).end);
  const int first_row = origin + box * axis.row_box;
  if (first_row >= end) return share;
  share.rows = {first_row, smaller(first_row + axis.row_box, end)};
  const Range first = seen_by<kRows>(window, share.rows.begin);
  const Range last = seen_by<kRows>(window, share.rows.end - 1);
  share.needed = {(first.begin - share.halo_begin) / axis.column_tile, tiles_up_to(last.end)};
  share.unmasked = {tiles_up_to(last.begin), (first.end - share.halo_begin) / axis.column_tile};
  share.last_begun = (last.begin - share.halo_begin) / axis.column_tile;
  return share;
}

/// Walks the column tiles of the grid, the last loop fastest.
struct ColumnTileCursor {
  int at[3];  ///< tile along each loop

  VICINAL_HOST_DEVICE constexpr void next(int count1, int count2) {
    if (++at[2] < count2) return;
    at[2] = 0;
    if (++at[1] < count1) return;
    at[1] = 0;
    ++at[0];
  }

  /// Tile along an axis of the grid.
  VICINAL_HOST_DEVICE constexpr int along(const TiledGrid& grid, int axis) const { return grid.of_axis(at, axis); }
  /// Along a loop.
  VICINAL_HOST_DEVICE constexpr int along_loop(int loop) const {
    return loop == 2 ? at[2] : (loop == 1 ? at[1] : at[0]);
  }
};

/// Columns that a row sees along an axis, relative to the halo. Rows without a token repeat the last.
template <RowKind kRows>
VICINAL_HOST_DEVICE constexpr Range columns_of_row(const Window& window, Range rows, int halo_begin, int position) {
  const Range seen = seen_by<kRows>(window, smaller(rows.begin + position, rows.end - 1));
  return {seen.begin - halo_begin, seen.end - halo_begin};
}

/// The column tiles of a work item, those of the grid first, then extra tokens, and a warpgroup's share of them: which
/// it attends to, and which it lets pass.
struct Share {
  int total;
  int skipped_before, attended, skipped_after, extra;
  int count[2];  ///< tiles along the inner loops

  Share() = default;
  /// From the number of column tiles along each axis and what the warpgroup sees along the split axis.
  VICINAL_HOST_DEVICE Share(const TiledGrid& grid, const int (&column_tiles)[3], Range needed) {
    const int outermost =
        grid.split_axis == 0 ? column_tiles[0] : (grid.split_axis == 1 ? column_tiles[1] : column_tiles[2]);
    count[0] = grid.split_axis == 0 ? column_tiles[1] : column_tiles[0];
    count[1] = grid.split_axis == 2 ? column_tiles[1] : column_tiles[2];
    const int plane = count[0] * count[1];
    const int tiles = outermost * plane;
    extra = tiles == 0 ? 0 : (grid.extra_kv + grid.columns.volume - 1) / grid.columns.volume;
    total = tiles + extra;
    skipped_before = needed.begin * plane;
    attended = needed.size() * plane;
    skipped_after = tiles - needed.end * plane;
  }

  /// Tiles of the grid.
  VICINAL_HOST_DEVICE int tiles() const { return total - extra; }
  /// Whether the warpgroup has no rows.
  VICINAL_HOST_DEVICE bool idle() const { return attended == 0; }
  /// The innermost loop that has more than one tile, and its axis: along it tiles that follow each other are neighbors.
  VICINAL_HOST_DEVICE int fast_loop() const { return count[1] > 1 ? 2 : (count[0] > 1 ? 1 : 0); }
  VICINAL_HOST_DEVICE int fast_axis(const TiledGrid& grid) const { return grid.loop_axis(fast_loop()); }
};

/// What a warpgroup is to know of a column tile.
struct alignas(16) TileNote {
  /// Bits of `what`: 1 << axis where some rows do not see the tile whole along that axis, ...
  static constexpr int kMasked = 7;
  static constexpr int kShort = 1 << 3;   ///< ... not all columns hold tokens: bits 8 to 15 count those that do,
  static constexpr int kSigned = 1 << 4;  ///< scores are to be multiplied by the sign of the scale,
  static constexpr int kGaps = 1 << 5;    ///< some rows hold no token, and are to see nothing,
  static constexpr int kBegins = 1 << 6;  ///< ... it is no neighbor along the fast axis of the tile before,
  static constexpr int kFirsts = 1 << 7;  ///< some rows may have seen nothing before it.

  int what;
  int begin[3];  ///< of the tile along each axis, relative to the halo

  /// Tile `number` of the work item, `along_fast` of its fast loop; `masked` has the bits of the axes.
  VICINAL_HOST_DEVICE static int make(const TiledGrid& grid, const Share& share, int number, int along_fast,
                                      int columns, int masked) {
    const int extra_tile = number - share.tiles();
    int filled = grid.columns.volume;
    if (extra_tile >= 0) filled = smaller(grid.extra_kv - extra_tile * grid.columns.volume, filled);
    const int is_short = filled < columns ? kShort : 0;
    const bool begins = along_fast == 0 || extra_tile >= 0;
    return masked | is_short | (begins ? kBegins : 0) | filled << 8;
  }

  /// Whether scores are to be changed before the softmax.
  VICINAL_HOST_DEVICE static constexpr bool touched(int what) {
    return (what & (kMasked | kShort | kSigned | kGaps)) != 0;
  }
};

/// Which columns of a tile a thread of the matrix product may keep.
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
  /// One for every position and the end of each axis, three axes' products being at most kColumns.
  static constexpr int kPrefixes = kColumns + 5;

  std::uint32_t prefix[kPrefixes][kLanes];

  VICINAL_HOST_DEVICE static constexpr int column(int lane, int bit) { return 8 * (bit / 2) + 2 * lane + bit % 2; }

  /// One entry of the table; `positions` are those of a lane's columns.
  VICINAL_HOST_DEVICE static std::uint32_t make(const TileShape& tile, const PackedPosition (&positions)[kBits],
                                                int entry) {
    int axis = 0;
    int below = entry;
    while (axis < 2 && below > tile.extent[axis]) below -= tile.extent[axis++] + 1;
    std::uint32_t bits = 0;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int bit = 0; bit < kBits; ++bit) {
      bits |= static_cast<std::uint32_t>(positions[bit].along(axis) < below) << bit;
    }
    return bits;
  }

  /// A lane has its columns in their order: the first bits are those of the first columns.
  VICINAL_HOST_DEVICE static constexpr std::uint32_t first_columns(int count, int lane) {
    const int bits = 2 * (count / 8) + clamped(count % 8 - 2 * lane, 0, 2);
    return bits < 32 ? (1U << bits) - 1 : ~0U;
  }

  /// Columns at positions of `seen` relative to the tile; `table` is where the prefixes of the axis begin.
  VICINAL_HOST_DEVICE std::uint32_t along(int table, int extent, Range seen, int lane) const {
    return prefix[table + clamped(seen.end, 0, extent)][lane] & ~prefix[table + clamped(seen.begin, 0, extent)][lane];
  }

  /// Columns that two rows see of a tile that is touched. `seen_by(row, axis)` are those that the first or the second
  /// sees along an axis, relative to the halo. `kept` is what they see along all axes but the fast one, which neighbors
  /// along that have in common; it is looked up where those `begin`, or has all bits where the first is not touched.
  template <class SeenBy>
  VICINAL_HOST_DEVICE void visible(const TiledGrid& grid, const TileNote& note, int fast, SeenBy seen_by, int lane,
                                   bool begin, std::uint32_t (&kept)[2], std::uint32_t (&columns)[2]) const {
    const int what = note.what;
    const auto look_up = [&](int axis, std::uint32_t (&in)[2]) {
      if ((what >> axis & 1) == 0) return;
      int table = 0;
      for (int a = 0; a < 2; ++a) table += a < axis ? grid.axes[a].column_tile + 1 : 0;
      for (int r = 0; r < 2; ++r) {
        const Range seen = seen_by(r, axis);
        const Range of_tile{seen.begin - note.begin[axis], seen.end - note.begin[axis]};
        in[r] &= along(table, grid.axes[axis].column_tile, of_tile, lane);
      }
    };
    if (begin) {
      kept[0] = kept[1] = (what & TileNote::kShort) == 0 ? ~0U : first_columns(what >> 8 & 0xFF, lane);
      for (int a = 0; a < 3; ++a) {
        if (a != fast) look_up(a, kept);
      }
    }
    for (int r = 0; r < 2; ++r) columns[r] = kept[r];
    look_up(fast, columns);
  }
};

}  // namespace vicinal::cuda::sm90
