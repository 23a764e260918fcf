#pragma once

// The producer of the fused Hopper kernels: it fills shared memory with tiles.

#include "cuda/fused_sm90/block.cuh"
#include "cuda/fused_sm90/copying_warp.cuh"
#include "cuda/fused_sm90/parameters.h"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

/// Plans work items and fills tiles, for all warpgroups: the last warp of a block, or its last warpgroup. There, where
/// the copy engine copies, the first warp plans and loads rows, the second loads keys and the third values, and the
/// fourth has to do with single numbers of columns that are queries: it loads their statistics, and has sums of dQ
/// added. Where threads copy, two warps have keys and two have values, each a half of every tile or every other one,
/// from waiting until the stage is free to announcing it; and all a share of each item's rows. Planners alone do the
/// arithmetic of tiles, once for all, and leave notes of what each warpgroup is to know.
template <class Config, bool kByCopyEngine>
class Producer {
  using Element = typename Config::Element;
  static constexpr int kWarpgroups = Config::kWarpgroups;
  static constexpr int kWarps = Config::kProducers / 32;
  static constexpr int kRoles = kWarps == 1 || !kByCopyEngine ? 1 : (Config::kHasStatistics ? 4 : 3);
  static constexpr int kLag = kByCopyEngine ? Config::kValueLag : 0;
  static constexpr int kCopiers = kByCopyEngine ? 1 : Config::kTileCopiers;
  static constexpr int kWhole = -1;                                 // of the parts of a tile that blocks may share
  static constexpr int kBoxes = kWarpgroups * Config::kRowTensors;  // of an item's rows
  static constexpr bool kFindsRotated = Config::kRotates && !kByCopyEngine;
  /// Rows of a box that a warp copies, so that each has as many.
  static constexpr int kCopiedRows = smaller(kWarpgroupRows, kBoxes* kWarpgroupRows / kWarps);
  static_assert(kWarps == 1 || (kWarps == 4 && Config::kStages % 2 == 0));

 public:
  __device__ Producer(const Parameters& p, SharedMemory<Config>& shared)
      : p_(p),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) - Config::kConsumers),
        lane_(thread_ % 32),
        axis_(lane_ % 3),
        warpgroup_(lane_ / 3 % kWarpgroups),
        copying_(p, shared, thread_) {}

  __device__ void run() {
    if (kByCopyEngine && warp() >= kRoles) return;
    // A block takes one item where the device deals them out (dealing.h). Else in each turn blocks take items that
    // follow each other, so that they share halos, and move on by one place from turn to turn: where an axis is cut
    // into few parts, a block would get the same one, and perhaps the longest, every time. Not by more: those that are
    // neighbors pass over the same tokens at the same time and should stay neighbors.
    constexpr int kStep = 1;
    const int blocks = static_cast<int>(gridDim.x) / sharers();  // those that share as one
    int place = static_cast<int>(blockIdx.x) / sharers();
#pragma unroll 1
    for (int turn = 0; turn < p_.grid.items; turn += blocks) {
      const int number = turn + place;
      place = place + kStep < blocks ? place + kStep : place + kStep - blocks;
      if (number >= p_.grid.items) continue;
      const WorkItem item(p_.grid, number);
      const AxisShare along =
          axis_share<Config::kRows>(p_.grid, axis_, of_axis(item.group), of_axis(item.origin), warpgroup_, sharer());
      const Share share = share_of(along);
      if (share.total == 0) continue;
      if constexpr (kFindsRotated) {
        rotated_ = p_.odd_rows.rotated(item.batch, item.head, item.head / p_.grid.heads_per_kv);
      }
      if (has_role(0)) produce_rows(item, along, share);
      // Query heads that share the head of the rows pass by one after the other.
      const int sharing = p_.grid.heads_per_kv;
      const int first = Config::kRows == RowKind::keys ? item.head * sharing : item.head / sharing;
      const int end = Config::kRows == RowKind::keys ? first + sharing : first + 1;
#pragma unroll 1
      for (int head = first; head < end; ++head) produce_tiles(item, head, along, share);
      // A warp that copies would wait for rows that consumers keep until sums have made way.
      if (!kByCopyEngine && adds_sums()) add_last_sums();
    }
    if constexpr (!kByCopyEngine) {
      copying_.announce_last();
    } else if (has_role(3)) {
      add_last_sums();
      if constexpr (Config::kHasStatistics) {  // shared memory is theirs until they have arrived
        close_copies();
        wait_for_copies<0>();
      }
    }
    if (Config::kSumsQueries && warp() == 3 && elect_lane()) wait_for_boxes();
    if (has_role(0)) announce_end();
  }

 private:
  /// Kept where it is asked for often.
  __device__ int warp() const { return kByCopyEngine ? warp_of(thread_) : warp_; }
  __device__ static int warp_of(int thread) { return __shfl_sync(~0U, thread / 32, 0); }
  __device__ bool plans_items() const { return kWarps == 1 || warp() == 0; }
  __device__ bool has_role(int role) const { return kRoles == 1 || warp() == role; }
  /// Blocks that have this work item; they share its column tiles.
  __device__ int sharers() const { return kByCopyEngine && Config::kMayShare ? p_.grid.sharers : 1; }
  /// Which of them this block is, of one or two.
  __device__ int sharer() const { return static_cast<int>(blockIdx.x) & (sharers() - 1); }
  /// Whether tiles of this stage, or shares of them, are this warp's.
  __device__ bool loads_keys(int stage) const {
    if (kByCopyEngine) return has_role(1);
    return kWarps == 1 || (kCopiers > 1 ? warp() < kCopiers : warp() == stage % 2);
  }
  __device__ bool loads_values(int stage) const {
    if (kByCopyEngine) return has_role(2);
    return kWarps == 1 || (kCopiers > 1 ? warp() >= kCopiers : warp() == 2 + stage % 2);
  }
  __device__ int share_of_tile() const { return kCopiers > 1 ? warp() % kCopiers : 0; }
  __device__ bool loads_statistics(int stage) const {
    return Config::kHasStatistics && (kByCopyEngine ? has_role(3) : loads_keys(stage));
  }
  __device__ bool plans_tiles(int stage) const {
    return kByCopyEngine || kCopiers > 1 ? plans_items() : loads_keys(stage);
  }
  __device__ bool adds_sums() const { return Config::kSumsQueries && warp() == 3; }

  __device__ int of_axis(const int (&values)[3]) const {
    return axis_ == 0 ? values[0] : (axis_ == 1 ? values[1] : values[2]);
  }

  /// Each lane knows one axis as one warpgroup sees it: lane 3 w + a axis a for warpgroup w.
  __device__ static int from_lane(int value, int lane) { return __shfl_sync(~0U, value, lane); }

  __device__ Share share_of(const AxisShare& along) const {
    const int tiles[3] = {from_lane(along.column_tiles, 0), from_lane(along.column_tiles, 1),
                          from_lane(along.column_tiles, 2)};
    const int split = 3 * warpgroup_ + p_.grid.split_axis;
    return {p_.grid, tiles, {from_lane(along.needed.begin, split), from_lane(along.needed.end, split)}};
  }

  __device__ void produce_rows(const WorkItem& item, const AxisShare& along, const Share& share) {
    const int stage = row_ring_.stage;
    await(shared_.row_empty[stage], row_ring_.phase ^ 1);
    Barrier& full = shared_.row_full[stage];
    // The copy engine begins, and notes are written meanwhile; threads find in them what they copy.
    if constexpr (kByCopyEngine) copy_rows(item, stage, full);
    if (plans_items()) {
      note_item(item, along, share, stage);
      note_rows(item, along, stage);
      __syncwarp();
    }
    if constexpr (kByCopyEngine) {
      const int of_value_dim = (Config::kRowTensors > 1 ? 1 : 0) + (makes_delta() ? 1 : 0);
      expect(full, kWarpgroups * p_.grid.rows.volume * (p_.dim + of_value_dim * p_.dim_v));
    } else {
      copy_rows(item, stage, full);
    }
    row_ring_.advance();
  }

  __device__ void copy_rows(const WorkItem& item, int stage, Barrier& full) {
    constexpr int kBoxCopiers = kByCopyEngine ? 1 : kWarpgroupRows / kCopiedRows;
    const int boxes = kBoxes + (makes_delta() ? kWarpgroups : 0);
#pragma unroll 1
    for (int box = kByCopyEngine ? 0 : warp() / kBoxCopiers; box < boxes;
         box += kByCopyEngine ? 1 : kWarps / kBoxCopiers) {
      const int w = box % kWarpgroups;
      const int t = box / kWarpgroups;
      TileOrigin origin{item.batch, item.head, {}};
      first_row(item, w, origin.token);
      const int dim = t == 0 ? p_.dim : p_.dim_v;
      if constexpr (kByCopyEngine) {
        fill(p_.row[t], dim, p_.grid.rows, true, kWhole, origin, shared_.row[stage][t][w], full);
      } else {
        const bool last = kWarps > 1 || box == kBoxes - 1;
        copying_.template copy<kCopiedRows>(p_.row[t].view, dim, are_rotated(0), p_.grid.rows, shared_.row_position,
                                            nullptr, origin, warp() % kBoxCopiers * kCopiedRows,
                                            shared_.row[stage][t][w], last ? &full : nullptr);
      }
    }
  }

  __device__ bool makes_delta() const { return Config::kMayMakeDelta && kByCopyEngine && p_.makes_delta; }

  /// The token of the first row of a warpgroup's box.
  __device__ void first_row(const WorkItem& item, int warpgroup, int (&token)[3]) const {
#pragma unroll
    for (int a = 0; a < 3; ++a) {
      const TiledAxis& axis = p_.grid.axes[a];
      const int first = item.origin[a] + p_.grid.box_along(a, warpgroup, sharer()) * axis.row_box;
      token[a] = item.group[a] + axis.dilation * first;
    }
  }

  /// Of rows that scores are made of, 0, and those that are summed up, 1.
  __device__ bool are_rotated(int kind) const { return (rotated_ >> kind & 1) != 0; }

  __device__ void note_item(const WorkItem& item, const AxisShare& along, const Share& share, int stage) const {
    int members = along.rows.size() << (8 * axis_);
    members |= __shfl_down_sync(~0U, members, 1) | __shfl_down_sync(~0U, members, 2);
    const int lane = Config::kSumsQueries ? computed_late(lane_) : lane_;  // that kernel is short of registers
    if (axis_ != 0 || lane >= 3 * kWarpgroups) return;
    ItemNote& note = shared_.item[stage][warpgroup_];
    const bool idle = share.idle();
    note.skipped_before = idle ? share.total : share.skipped_before;
    note.attended = share.attended;
    note.skipped_after = idle ? 0 : share.skipped_after;
    note.extra = idle ? 0 : share.extra;
    int token[3];
    first_row(item, warpgroup_, token);
#pragma unroll
    for (int v = 0; v < kRowViews; ++v) note.first[v] = token_offset(p_.rows[v], item.batch, token, item.head);
    note.members = static_cast<std::uint32_t>(members) | (kFindsRotated && are_rotated(1) ? ItemNote::kRotated : 0);
    note.fast_axis = share.fast_axis(p_.grid);
  }

  __device__ void note_rows(const WorkItem& item, const AxisShare& along, int stage) const {
    const bool masks = along.unmasked.begin > 0 || along.unmasked.end < along.column_tiles;
    if (!__any_sync(~0U, masks && lane_ < 3 * kWarpgroups)) return;  // nobody would read it
    const TileShape& shape = p_.grid.rows;
    const int second = shape.extent[0];
    const int third = second + shape.extent[1];
    const int end = third + shape.extent[2];
#pragma unroll 1
    for (int w = 0; w < kWarpgroups; ++w) {
#pragma unroll 1
      for (int first = 0; first < end; first += 32) {
        const int e = first + lane_;
        const int axis = e < second ? 0 : (e < third ? 1 : 2);
        const int position = e - (axis == 0 ? 0 : (axis == 1 ? second : third));
        const int group = axis == 0 ? item.group[0] : (axis == 1 ? item.group[1] : item.group[2]);
        const int from = 3 * w + axis;
        const Range rows{from_lane(along.rows.begin, from), from_lane(along.rows.end, from)};
        const int halo_begin = from_lane(along.halo_begin, from);
        if (e >= end) continue;
        shared_.row_columns[stage][w][e] =
            columns_of_row<Config::kRows>(p_.grid.axes[axis].in_group(group), rows, halo_begin, position);
      }
    }
  }

  /// Each key tile, and its value tile or the one before it, as consumers want them.
  __device__ void produce_tiles(const WorkItem& item, int head, const AxisShare& along, const Share& share) {
    const TiledGrid& grid = p_.grid;
    int corner[3], step[3];
#pragma unroll
    for (int a = 0; a < 3; ++a) {
      corner[a] = item.group[a] + grid.axes[a].dilation * from_lane(along.halo_begin, a);
      step[a] = grid.axes[a].dilation * grid.axes[a].column_tile;
    }
    ColumnTileCursor cursor{};
    TileOrigin before{item.batch, head, {}};
#pragma unroll 1
    for (int t = 0; t < share.total + kLag; ++t) {
      const bool extra = t >= share.tiles();
      const int tile[3] = {cursor.along(grid, 0), cursor.along(grid, 1), cursor.along(grid, 2)};
      TileOrigin origin{item.batch, head, {0, 0, (t - share.tiles()) * grid.columns.volume}};
      if (!extra) {
#pragma unroll
        for (int a = 0; a < 3; ++a) origin.token[a] = corner[a] + step[a] * tile[a];
      }
      if (t < share.total) {
        const int stage = key_ring_.stage;
        const bool mine = plans_tiles(stage) || loads_keys(stage) || loads_statistics(stage) || adds_sums();
        if (mine) await(shared_.key_empty[stage], key_ring_.phase ^ 1);
        if (plans_tiles(stage)) {
          if constexpr (Config::kSumsQueries) note_place(item, head, along, of_axis(tile));
          note_tile(along, share, t, of_axis(tile), cursor.along_loop(share.fast_loop()), shared_.tile[stage],
                    shared_.key_full[stage]);
        }
        if (loads_statistics(stage)) fill_statistics(origin, stage);
        if (kByCopyEngine && loads_keys(stage)) fill_columns(0, origin, extra, stage);
        if constexpr (Config::kSumsQueries) {
          if (adds_sums()) {
            if (laid_ == Config::kStages) {
              add_sums(key_ring_);
            } else {
              ++laid_;
            }
          }
        }
      }
      if constexpr (kByCopyEngine) {
        const int stage = value_ring_.stage;
        if (t >= kLag && loads_values(stage)) {
          await(shared_.value_empty[stage], value_ring_.phase ^ 1);
          fill_columns(1, kLag > 0 ? before : origin, t - kLag >= share.tiles(), stage);
        }
      } else {
        // A loop, so that the code is there once.
        const int stage = key_ring_.stage;  // of values too
#pragma unroll 1
        for (int kind = loads_keys(stage) ? 0 : 1; kind < (loads_values(stage) ? 2 : 1); ++kind) {
          if (kind == 1) await(shared_.value_empty[stage], key_ring_.phase ^ 1);
          fill_columns(kind, origin, extra, stage);
        }
      }
      if (t < share.total) key_ring_.advance();
      if (t >= kLag) value_ring_.advance();
      before = origin;
      if (!extra) cursor.next(share.count[0], share.count[1]);
    }
  }

  /// Each lane its axis and warpgroup.
  __device__ void note_tile(const AxisShare& along, const Share& share, int number, int tile, int along_fast,
                            TileNote (&notes)[kWarpgroups], Barrier& full) const {
    const bool masked = number < share.tiles() && !along.unmasked.contains(tile);
    const int axes = static_cast<int>(__ballot_sync(~0U, masked) >> (3 * warpgroup_) & TileNote::kMasked);
    bool gaps = false;  // matter where columns are summed over rows: dQ gets nothing from them
    if constexpr (Config::kSumsQueries) {
      const bool filled = along.rows.size() == p_.grid.axes[axis_].row_box;
      gaps = p_.grid.rows.volume < kWarpgroupRows || (~__ballot_sync(~0U, filled) >> (3 * warpgroup_) & 7) != 0;
    }
    bool firsts = false;
    if constexpr (Config::kTellsFirsts) {
      const bool begun = number < share.tiles() && tile <= along.last_begun;
      firsts = (~__ballot_sync(~0U, begun) >> (3 * warpgroup_) & 7) == 0;
    }
    if (lane_ < 3 * kWarpgroups) {
      TileNote& note = notes[warpgroup_];
      note.begin[axis_] = tile * p_.grid.axes[axis_].column_tile;
      if (axis_ == 0) {
        note.what = TileNote::make(p_.grid, share, number, along_fast, Config::kColumns, axes) |
                    (p_.sign != 1.0F ? TileNote::kSigned : 0) | (gaps ? TileNote::kGaps : 0) |
                    (firsts ? TileNote::kFirsts : 0);
      }
    }
    __syncwarp();
    if (lane_ == 0) full.arrive();
  }

  /// Where the queries of a tile have their sums; of each axis its lane of the first warpgroup. Positions beyond a
  /// dilation group are those of the next, to which nothing but zeros is added there; beyond the last group the copy
  /// engine leaves memory alone.
  __device__ void note_place(const WorkItem& item, int head, const AxisShare& along, int tile) const {
    const QuerySums& sums = p_.query_sums;
    int (&place)[4] = shared_.query_gradients.place[key_ring_.stage + Config::kStages * key_ring_.phase];
    if (lane_ < 3) {
      const int position = along.halo_begin + tile * p_.grid.axes[axis_].column_tile;
      const int coordinate = sums.order[0] == axis_ ? 0 : (sums.order[1] == axis_ ? 1 : 2);
      place[coordinate] = sums.groups[axis_].begin(of_axis(item.group)) + position;
    }
    if (lane_ == 0) place[3] = item.batch * p_.grid.heads * p_.grid.heads_per_kv + head;
  }

  /// Of keys, 0, or values, 1.
  __device__ void fill_columns(int kind, const TileOrigin& origin, bool extra, int stage) {
    const bool keys = kind == 0;
    const Source& from = extra ? (keys ? p_.extra_key : p_.extra_value) : (keys ? p_.key : p_.value);
    const int dim = keys ? p_.dim : p_.dim_v;
    auto& to = keys ? shared_.key[stage] : shared_.value[stage];
    Barrier& full = keys ? shared_.key_full[stage] : shared_.value_full[stage];
    if constexpr (kByCopyEngine) {
      expect(full, p_.grid.columns.volume * dim);
      const int part = sharers() > 1 ? (stage + kind + sharer()) & 1 : kWhole;  // a tile may be one chunk: in turns
      fill(from, dim, p_.grid.columns, !extra, part, origin, to, full);
    } else {
      constexpr int kShare = Config::kColumns / kCopiers;
      copying_.template copy<kShare>(from.view, dim, are_rotated(kind), p_.grid.columns,
                                     extra ? nullptr : shared_.column_position, shared_.column_offset[kind], origin,
                                     share_of_tile() * kShare, to, &full);
    }
  }

  /// Has dQ of the last tile of a stage, which consumers laid out before they gave the stage back, added to the sums in
  /// memory; and tells them when that of the tile before, which was added a tile ago, has made way.
  __device__ void add_sums(const RingPosition<Config::kStages>& ring) const {
    static_assert(Config::kStages == 2 && Config::kProducers == 128);
    if (warp() == 3 && elect_lane()) {
      auto& gradients = shared_.query_gradients;
      const int (&place)[4] = gradients.place[ring.stage + Config::kStages * (ring.phase ^ 1)];
#pragma unroll 1
      for (int chunk = 0; chunk * kSumChunk < p_.dim; ++chunk) {
        add_box(p_.query_sums.map, shared_address(&gradients.sums[ring.stage][chunk]), chunk * kSumChunk, place[0],
                place[1], place[2], place[3]);
      }
      close_boxes();
      wait_for_reads_of_boxes<1>();
      gradients.sums_read[ring.stage ^ 1].arrive();
    }
    __syncwarp();
  }

  /// Likewise of all tiles that are left.
  __device__ void add_last_sums() {
    if constexpr (Config::kSumsQueries) {
      auto ring = key_ring_;
#pragma unroll
      for (int left = Config::kStages; left > 0; --left) {
        if (left <= laid_) {
          shared_.key_empty[ring.stage].wait(ring.phase ^ 1);
          add_sums(ring);
        }
        ring.advance();
      }
      laid_ = 0;
    }
  }

  /// Threads copy them, whoever copies tiles. Columns without a token get zeros, as their vectors are: they
  /// add nothing to any sum.
  __device__ void fill_statistics(const TileOrigin& origin, int stage) const {
    auto& to = shared_.statistics[stage];
#pragma unroll 1
    for (int i = lane_ + 32 * share_of_tile(); i < p_.grid.columns.volume; i += 32 * kCopiers) {
      int token[3];
      bool exists = true;
      for (int a = 0; a < 3; ++a) {
        token[a] = origin.token[a] + shared_.column_position[i].along(a) * p_.grid.axes[a].dilation;
        exists = exists && token[a] < p_.grid.axes[a].extent;
      }
      const int bytes = exists ? static_cast<int>(sizeof(float)) : 0;
      const auto copy = [&](float& target, const View& view) {
        const std::int64_t offset = exists ? token_offset(view, origin.batch, token, origin.head) : 0;
        copy_4(shared_address(&target), static_cast<const float*>(view.data) + offset, bytes);
      };
      copy(to.of_weight[i], p_.statistics[0]);
      copy(to.of_gradient[i], p_.statistics[1]);
    }
    if constexpr (kByCopyEngine) shared_.key_full[stage].arrive_after_copies();
  }

  __device__ void announce_end() {
    const int stage = row_ring_.stage;
    await(shared_.row_empty[stage], row_ring_.phase ^ 1);
    if (plans_items() && lane_ < kWarpgroups) shared_.item[stage][lane_].skipped_before = -1;
    __syncwarp();
    if (lane_ == 0) shared_.row_full[stage].arrive();
  }

  __device__ void await(Barrier& empty, int phase) {
    if constexpr (kByCopyEngine) {
      empty.wait(phase);
    } else {
      copying_.await(empty, phase);
    }
  }

  __device__ void expect(Barrier& full, int elements) {
    if constexpr (!kByCopyEngine) return;
    if (elect_lane()) full.arrive_expecting(elements * static_cast<int>(sizeof(Element)));
    __syncwarp();
  }

  /// Has the copy engine fill a tile with rows at the positions of `shape`, or with consecutive extra tokens. Where two
  /// blocks share it, the part that is this block's, for both: even chunks, 0, or odd ones, 1.
  template <int kRows>
  __device__ void fill(const Source& from, int dim, const TileShape& shape, bool of_grid, int part,
                       const TileOrigin& origin, std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier& full) const {
    if (of_grid && shape.copies > 1) {
      fill_by_walking(from, dim, shape, part, origin, to, full);
    } else if (elect_lane()) {
      copy_box(from, dim, part, origin.token, origin, 0, to, full);
    }
  }

  /// One box of tokens.
  template <int kRows>
  __device__ void copy_box(const Source& from, int dim, int part, const int (&token)[3], const TileOrigin& origin,
                           int row, std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier& full) const {
    const int column = origin.head * static_cast<int>(from.view.head_stride);
#pragma unroll
    for (int chunk = 0; chunk < Config::kChunks; ++chunk) {
      const int left = dim - chunk * kChunk;
      if (left <= 0) break;
      const CUtensorMap& map = left < kChunk ? from.rest : from.full;
      const std::uint32_t place = shared_address(&to[chunk][row][0]);
      const int first = column + chunk * kChunk;
      if (part == kWhole) {
        load_box(map, place, full, first, token[2], token[1], token[0], origin.batch);
      } else if (chunk % 2 == part) {
        load_box_for_both(map, place, full, first, token[2], token[1], token[0], origin.batch);
      }
    }
  }

  /// Axes that no box can pass over are walked, each lane its boxes.
  template <int kRows>
  __device__ void fill_by_walking(const Source& from, int dim, const TileShape& shape, int part,
                                  const TileOrigin& origin, std::uint8_t (&to)[Config::kChunks][kRows][128],
                                  Barrier& full) const {
    const int copies = shape.copies;
#pragma unroll 1
    for (int copy = lane_; copy < copies; copy += 32) {
      int row = 0;
      int token[3] = {origin.token[0], origin.token[1], origin.token[2]};
      int n = copy;
      for (int a = 2; a >= 0; --a) {
        if (shape.box[a] == shape.extent[a]) continue;
        const int walked = n % shape.extent[a];
        n /= shape.extent[a];
        row += walked * shape.row_stride[a];
        token[a] += walked * p_.grid.axes[a].dilation;
      }
      copy_box(from, dim, part, token, origin, row, to, full);
    }
    __syncwarp();
  }

  const Parameters& p_;
  SharedMemory<Config>& shared_;
  int thread_;
  int lane_;
  int axis_;  // that this lane knows, as this warpgroup sees it
  int warpgroup_;
  int warp_ = warp_of(thread_);
  RingPosition<Config::kRowStages> row_ring_;
  RingPosition<Config::kStages> key_ring_, value_ring_;
  CopyingWarp<Config> copying_;  // where threads copy
  unsigned rotated_ = 0;         // OddRows::rotated of the work item
  int laid_ = 0;                 // tiles of columns, the last ones, of which sums are still to be added
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
