#pragma once

// The producer of the fused Hopper kernels: it fills shared memory with tiles.

#include "cuda/fused_sm90/block.cuh"
#include "cuda/fused_sm90/parameters.h"
#include "cuda/fused_sm90/shift.h"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

/// Which tokens of which head a tile holds.
struct TileOrigin {
  int batch;
  int head;
  int token[3];  ///< of the tile's first position
};

/// Plans work items and fills tiles, for all warpgroups: the last warp of a block, or its last warpgroup, where the
/// first warp plans and loads rows, the second loads keys and the third values, and the fourth has to do with single
/// numbers of columns that are queries: it loads their statistics, and has sums of dQ added. Planners alone do the
/// arithmetic of tiles, once for all, and leave notes of what each warpgroup is to know. Where threads copy, all of
/// them copy everything.
template <class Config, bool kByCopyEngine>
class Producer {
  using Element = typename Config::Element;
  static constexpr int kWarpgroups = Config::kWarpgroups;
  static constexpr int kRoles = Config::kProducers == 32 || !kByCopyEngine ? 1 : (Config::kHasStatistics ? 4 : 3);
  static constexpr int kLag = Config::kValueLag;
  static constexpr bool kFillsChunks = SharedMemory<Config>::kFillsChunks;
  // Where threads copy:
  static constexpr int kWarpRows = 8;                                   // rows of a warp that follow each other
  static constexpr int kRowStep = Config::kProducers / 32 * kWarpRows;  // from these to its next

 public:
  __device__ Producer(const Parameters& p, SharedMemory<Config>& shared)
      : p_(p),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) - Config::kConsumers),
        lane_(thread_ % 32),
        axis_(lane_ % 3),
        warpgroup_(lane_ / 3 % kWarpgroups) {}

  __device__ void run() {
    if (kByCopyEngine && warp() >= kRoles) return;
    // A block takes one item where the device deals them out (dealing.h). Else in each turn blocks take items that
    // follow each other, so that they share halos, and move on by one place from turn to turn: where an axis is cut
    // into few parts, a block would get the same one, and perhaps the longest, every time. Not by more: those that are
    // neighbors pass over the same tokens at the same time and should stay neighbors.
    constexpr int kStep = 1;
    const int blocks = static_cast<int>(gridDim.x);
    int place = static_cast<int>(blockIdx.x);
#pragma unroll 1
    for (int turn = 0; turn < p_.grid.items; turn += blocks) {
      const int number = turn + place;
      place = place + kStep < blocks ? place + kStep : place + kStep - blocks;
      if (number >= p_.grid.items) continue;
      const WorkItem item(p_.grid, number);
      const AxisShare along =
          axis_share<Config::kRows>(p_.grid, axis_, of_axis(item.group), of_axis(item.origin), warpgroup_);
      const Share share = share_of(along);
      if (share.total == 0) continue;
      if (has_role(0)) produce_rows(item, along, share);
      // Query heads that share the head of the rows pass by one after the other.
      const int sharing = p_.grid.heads_per_kv;
      const int first = Config::kRows == RowKind::keys ? item.head * sharing : item.head / sharing;
      const int end = Config::kRows == RowKind::keys ? first + sharing : first + 1;
#pragma unroll 1
      for (int head = first; head < end; ++head) produce_tiles(item, head, along, share);
      // Threads that do everything would wait for rows that consumers keep until sums have made way.
      if constexpr (!kByCopyEngine) add_last_sums();
    }
    if constexpr (!kByCopyEngine) {
      if constexpr (!Config::kSumsQueries) announce_all();
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
  __device__ int warp() const { return __shfl_sync(~0U, thread_ / 32, 0); }
  __device__ bool plans() const { return Config::kProducers == 32 || warp() == 0; }
  __device__ bool has_role(int role) const { return kRoles == 1 || warp() == role; }

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
    if (plans()) {
      note_item(item, along, share, stage);
      note_rows(item, along, stage);
      __syncwarp();
    }
    Barrier& full = shared_.row_full[stage];
    expect(full, kWarpgroups * p_.grid.rows.volume * (p_.dim + (Config::kRowTensors > 1 ? p_.dim_v : 0)));
    constexpr int kBoxes = kWarpgroups * Config::kRowTensors;
#pragma unroll 1
    for (int box = 0; box < kBoxes; ++box) {
      if (unannounced_ > 1) announce();
      const int w = box / Config::kRowTensors;
      const int t = box % Config::kRowTensors;
      TileOrigin origin{item.batch, item.head, {}};
      first_row(item, w, origin.token);
      fill(p_.row[t], t == 0 ? p_.dim : p_.dim_v, p_.grid.rows, shared_.row_position, nullptr, origin,
           shared_.row[stage][t][w], full);
      publish(box == kBoxes - 1 ? &full : nullptr);
    }
    row_ring_.advance();
  }

  /// The token of the first row of a warpgroup's box.
  __device__ void first_row(const WorkItem& item, int warpgroup, int (&token)[3]) const {
#pragma unroll
    for (int a = 0; a < 3; ++a) {
      const TiledAxis& axis = p_.grid.axes[a];
      const int first = item.origin[a] + (a == p_.grid.split_axis ? warpgroup * axis.row_box : 0);
      token[a] = item.group[a] + axis.dilation * first;
    }
  }

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
    note.members = static_cast<std::uint32_t>(members);
  }

  __device__ void note_rows(const WorkItem& item, const AxisShare& along, int stage) const {
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
      if (t < share.total && (plans() || has_role(1) || has_role(3))) {
        const int stage = key_ring_.stage;
        Barrier& full = shared_.key_full[stage];
        await(shared_.key_empty[stage], key_ring_.phase ^ 1);
        if (plans()) {
          if constexpr (Config::kSumsQueries) note_place(item, head, along, of_axis(tile));
          note_tile(along, share, t, of_axis(tile), shared_.tile[stage], full);
        }
        if (has_role(1)) fill_keys(origin, extra, stage);
        if constexpr (Config::kHasStatistics) {
          if (has_role(3)) fill_statistics(origin, stage, full);
        }
        if (has_role(1)) publish(&full);
        if constexpr (Config::kSumsQueries) {
          if (has_role(3)) {
            if (laid_ == Config::kStages) {
              add_sums(key_ring_);
            } else {
              ++laid_;
            }
          }
        }
        key_ring_.advance();
      }
      if (t >= kLag && has_role(2)) {
        const int stage = value_ring_.stage;
        await(shared_.value_empty[stage], value_ring_.phase ^ 1);
        fill_values(kLag > 0 ? before : origin, t - kLag >= share.tiles(), stage);
        value_ring_.advance();
      }
      before = origin;
      if (!extra) cursor.next(share.count[0], share.count[1]);
    }
  }

  /// Each lane its axis and warpgroup.
  __device__ void note_tile(const AxisShare& along, const Share& share, int number, int tile,
                            TileNote (&notes)[kWarpgroups], Barrier& full) const {
    const bool masked = number < share.tiles() && !along.unmasked.contains(tile);
    const int axes = static_cast<int>(__ballot_sync(~0U, masked) >> (3 * warpgroup_) & 7);
    bool gaps = false;  // matter where columns are summed over rows: dQ gets nothing from them
    if constexpr (Config::kSumsQueries) {
      const bool filled = along.rows.size() == p_.grid.axes[axis_].row_box;
      gaps = p_.grid.rows.volume < kWarpgroupRows || (~__ballot_sync(~0U, filled) >> (3 * warpgroup_) & 7) != 0;
    }
    if (lane_ < 3 * kWarpgroups) {
      TileNote& note = notes[warpgroup_];
      note.begin[axis_] = tile * p_.grid.axes[axis_].column_tile;
      if (axis_ == 0) {
        note.what = TileNote::make(p_.grid, share, number, Config::kColumns, axes) |
                    (p_.sign != 1.0F ? TileNote::kSigned : 0) | (gaps ? TileNote::kGaps : 0);
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

  __device__ void fill_keys(const TileOrigin& origin, bool extra, int stage) {
    Barrier& full = shared_.key_full[stage];
    expect(full, p_.grid.columns.volume * p_.dim);
    fill(extra ? p_.extra_key : p_.key, p_.dim, p_.grid.columns, extra ? nullptr : shared_.column_position,
         shared_.column_offset[0], origin, shared_.key[stage], full);
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
      announce_all();
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

  __device__ void fill_values(const TileOrigin& origin, bool extra, int stage) {
    Barrier& full = shared_.value_full[stage];
    expect(full, p_.grid.columns.volume * p_.dim_v);
    fill(extra ? p_.extra_value : p_.value, p_.dim_v, p_.grid.columns, extra ? nullptr : shared_.column_position,
         shared_.column_offset[1], origin, shared_.value[stage], full);
    publish(&full);
  }

  /// The threads that have this role copy them, whoever copies tiles. Columns without a token get zeros, as their
  /// vectors are: they add nothing to any sum.
  __device__ void fill_statistics(const TileOrigin& origin, int stage, Barrier& full) const {
    constexpr int kThreads = kByCopyEngine ? 32 : Config::kProducers;
    auto& to = shared_.statistics[stage];
#pragma unroll 1
    for (int i = kByCopyEngine ? lane_ : thread_; i < p_.grid.columns.volume; i += kThreads) {
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
    if constexpr (kByCopyEngine) full.arrive_after_copies();
  }

  __device__ void announce_end() {
    const int stage = row_ring_.stage;
    shared_.row_empty[stage].wait(row_ring_.phase ^ 1);
    if (plans() && lane_ < kWarpgroups) shared_.item[stage][lane_].skipped_before = -1;
    __syncwarp();
    if (!kByCopyEngine || lane_ == 0) shared_.row_full[stage].arrive();
  }

  __device__ void expect(Barrier& full, int elements) {
    if constexpr (!kByCopyEngine) return;
    if (elect_lane()) full.arrive_expecting(elements * static_cast<int>(sizeof(Element)));
    __syncwarp();
  }

  /// Fills a tile with rows at the positions of `shape`, or with consecutive extra tokens where there are no
  /// `positions`. `offsets` are elements from the tile's first token, where they are known.
  template <int kRows>
  __device__ void fill(const Source& from, int dim, const TileShape& shape, const PackedPosition* positions,
                       const std::int64_t* offsets, const TileOrigin& origin,
                       std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier& full) {
    if constexpr (!kByCopyEngine) {
      fill_by_threads(from.view, dim, shape, positions, offsets, origin, to);
    } else if (positions != nullptr && shape.copies > 1) {
      fill_by_walking(from, dim, shape, origin, to, full);
    } else if (elect_lane()) {
      copy_box(from, dim, origin.token, origin, 0, to, full);
    }
  }

  /// One box of tokens, all chunks.
  template <int kRows>
  __device__ void copy_box(const Source& from, int dim, const int (&token)[3], const TileOrigin& origin, int row,
                           std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier& full) const {
    const int column = origin.head * static_cast<int>(from.view.head_stride);
#pragma unroll
    for (int chunk = 0; chunk < Config::kChunks; ++chunk) {
      const int left = dim - chunk * kChunk;
      if (left <= 0) break;
      load_box(left < kChunk ? from.rest : from.full, shared_address(&to[chunk][row][0]), full, column + chunk * kChunk,
               token[2], token[1], token[0], origin.batch);
    }
  }

  /// Axes that no box can pass over are walked, each lane its boxes.
  template <int kRows>
  __device__ void fill_by_walking(const Source& from, int dim, const TileShape& shape, const TileOrigin& origin,
                                  std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier& full) const {
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
      copy_box(from, dim, token, origin, row, to, full);
    }
    __syncwarp();
  }

  template <int kRows>
  __device__ void fill_by_threads(const View& from, int dim, const TileShape& shape, const PackedPosition* positions,
                                  const std::int64_t* offsets, const TileOrigin& origin,
                                  std::uint8_t (&to)[Config::kChunks][kRows][128]) const {
    static_assert(kRows % kRowStep == 0);
    __syncwarp();  // lanes may still read what they know of the tile before the last
    find_rows(from, dim, shape, positions, offsets, origin, to);
    switch (p_.copied_bytes) {
      case 16: copy_rows<16>(dim, to); break;
      case 8: copy_rows<8>(dim, to); break;
      default: copy_rows<4>(dim, to);
    }
  }

  /// What this warp knows of one of the last two tiles.
  __device__ CopiedTile& copied(int tile) const {
    return shared_.copied[static_cast<unsigned>(computed_late(thread_)) / 32][tile];
  }

  /// One of the rows that the warp of a thread copies.
  __device__ static int row_of_warp(unsigned thread, unsigned number) {
    return static_cast<int>(number / kWarpRows * kRowStep + thread / 32 * kWarpRows + number % kWarpRows);
  }

  /// Whether rows may begin between words.
  __device__ bool has_halves() const { return p_.copied_bytes < 4; }

  /// Each lane finds rows that its warp is to copy. (Handed round by shuffles they would make the whole producer
  /// spill.)
  template <int kRows>
  __device__ void find_rows(const View& from, int dim, const TileShape& shape, const PackedPosition* positions,
                            const std::int64_t* offsets, const TileOrigin& origin,
                            std::uint8_t (&to)[Config::kChunks][kRows][128]) const {
    bool whole = positions != nullptr && offsets != nullptr;
#pragma unroll
    for (int a = 0; a < 3; ++a) {
      const TiledAxis& axis = p_.grid.axes[a];
      whole = whole && origin.token[a] + (shape.extent[a] - 1) * axis.dilation < axis.extent;
    }
    const std::uint8_t* first = nullptr;
    if (whole) first = address_of(from, token_offset(from, origin.batch, origin.token, origin.head));
    const auto thread = static_cast<unsigned>(computed_late(thread_));
    bool shifts = false;
#pragma unroll 1
    for (int row = row_of_warp(thread, thread % 32); row < kRows; row += Config::kProducers) {
      const std::uint8_t* found = no_row();
      if (row < shape.volume) {
        found =
            whole ? first + offsets[row] * static_cast<int>(sizeof(Element)) : find_row(from, row, positions, origin);
      }
      shared_.found_rows[next_][row] = found;
      if (has_halves()) {
        copy_end(found, dim, row, to);
        shifts = shifts || shift_of(found) != 0;
      }
    }
    if (has_halves()) {
      CopiedTile& tile = copied(next_);
      tile.address = shared_address(&to);
      tile.rows = kRows;
      tile.shifts = __any_sync(~0U, shifts);
      tile.is_full = is_full(dim);
    }
    __syncwarp();
  }

  /// Whether rows take all room.
  __device__ static bool is_full(int dim) { return kFillsChunks && dim == Config::kChunks * kChunk; }

  /// What a row has in the word behind those that it fills wherever it begins.
  template <int kRows>
  __device__ void copy_end(const std::uint8_t* row, int dim, int number,
                           std::uint8_t (&to)[Config::kChunks][kRows][128]) const {
    const auto elements = static_cast<unsigned>(dim);
    const unsigned words = elements / 2;
    const int shift = shift_of(row);
    const std::uint32_t place =
        is_full(dim) ? shared_address(&shared_.row_end[next_][number])
                     : shared_address(&to[words / 32][number][words % 32 * 4 ^ number % kWarpRows * 16U]);
    copy_4(place, row - shift + words * 4, static_cast<int>(elements % 2) * 2 + shift);
  }

  /// Some lanes copy a row that was found, each a unit of every so many. Rows begin, and end, at multiples of `kBytes`;
  /// of those that do not even begin at words the words are copied that hold them, as many as they fill.
  template <int kBytes, int kRows>
  __device__ void copy_rows(int dim, std::uint8_t (&to)[Config::kChunks][kRows][128]) const {
    constexpr int kRowLanes = kBytes == 4 && Config::kChunks > 1 ? 16 : 8;  // more would find rows for fewer units
    constexpr int kRowsAtOnce = 32 / kRowLanes;
    constexpr int kStep = kRowLanes * kBytes;
    const auto thread = static_cast<unsigned>(computed_late(thread_));
    const int begin = static_cast<int>(thread % kRowLanes) * kBytes;
    constexpr auto kElements = static_cast<unsigned>(kBytes / sizeof(Element));
    const int left = static_cast<int>(static_cast<unsigned>(dim) / kElements) * kBytes - begin;
    const int first = row_of_warp(thread, thread % 32 / kRowLanes);
    std::uint32_t target = shared_address(&to[0][first][begin ^ first % kWarpRows * 16]);
#pragma unroll 2
    for (int row = 0; row < kRows; row += kRowStep) {
      const std::uint8_t* sources[kWarpRows / kRowsAtOnce];
#pragma unroll
      for (int r = 0; r < kWarpRows; r += kRowsAtOnce)
        sources[r / kRowsAtOnce] = shared_.found_rows[next_][first + row + r];
#pragma unroll
      for (int r = 0; r < kWarpRows; r += kRowsAtOnce) {
        const std::uint8_t* source = sources[r / kRowsAtOnce];
        if constexpr (kBytes == 4) source -= shift_of(source);
        source = computed_late(source + begin);  // once for all units
#pragma unroll
        for (int at = 0; at < Config::kChunks * 128; at += kStep) {
          if (left <= at) continue;
          const std::uint32_t place = (target ^ (r * 16 ^ at % 128)) + (r + at / 128 * kRows) * 128;
          if constexpr (kBytes == 16) copy_16(place, source + at, kBytes);
          if constexpr (kBytes == 8) copy_8(place, source + at, kBytes);
          if constexpr (kBytes == 4) copy_4(place, source + at, kBytes);
        }
      }
      target += kRowStep * 128;
    }
  }

  /// What is copied where no token is: zeros.
  __device__ static const std::uint8_t* no_row() {
    alignas(16) static const std::uint8_t row[Config::kChunks * 128] = {};
    return row;
  }

  /// A row of a tile.
  __device__ const std::uint8_t* find_row(const View& from, int row, const PackedPosition* positions,
                                          const TileOrigin& origin) const {
    int token[3] = {0, 0, origin.token[2] + row};
    bool exists = token[2] < p_.grid.extra_kv;
    if (positions != nullptr) {
      exists = true;
      for (int a = 0; a < 3; ++a) {
        token[a] = origin.token[a] + positions[row].along(a) * p_.grid.axes[a].dilation;
        exists = exists && token[a] < p_.grid.axes[a].extent;
      }
    }
    if (!exists) return no_row();
    return address_of(from, token_offset(from, origin.batch, token, origin.head));
  }

  __device__ static const std::uint8_t* address_of(const View& from, std::int64_t element) {
    return reinterpret_cast<const std::uint8_t*>(static_cast<const Element*>(from.data) + element);
  }

  /// Bytes by which a row begins after a multiple of 4.
  __device__ static int shift_of(const std::uint8_t* row) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 4);
  }

  /// Moves the rows of a tile that has arrived to where they are to begin, each lane those that it found: by the
  /// swizzle the same piece of eight rows is in different banks. (Lanes that share a row would have to wait for each
  /// other, which makes the whole producer spill.)
  __device__ void shift_rows(const CopiedTile& tile, int number) const {
    constexpr int kPieces = 8;  // of a chunk
    const auto thread = static_cast<unsigned>(computed_late(thread_));
#pragma unroll 1
    for (int row = row_of_warp(thread, thread % 32); row < tile.rows; row += Config::kProducers) {
      const int shift = shift_of(shared_.found_rows[number][row]);
      std::uint32_t at = tile.address + row * 128 + row % kWarpRows * 16;
#pragma unroll 1
      for (int chunk = 1; chunk <= Config::kChunks; ++chunk) {
        const std::uint32_t next_chunk = at + tile.rows * 128;
        std::uint32_t last = 0;
        if (chunk < Config::kChunks) {
          last = load_shared(next_chunk);
        } else if (kFillsChunks && tile.is_full) {
          last = load_shared(shared_address(&shared_.row_end[number][row]));
        }
        Piece piece = load_piece(at);
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
          Piece next{{last}};
          if (p + 1 < kPieces) next = load_piece(at ^ (p + 1) * 16);
          const Piece result = shifted(piece, next.words[0], shift);
          store_shared(at ^ p * 16, uint4{result.words[0], result.words[1], result.words[2], result.words[3]});
          piece = next;
        }
        at = next_chunk;
      }
    }
  }

  __device__ static Piece load_piece(std::uint32_t from) {
    const uint4 words = load_shared_16(from);
    return {{words.x, words.y, words.z, words.w}};
  }

  /// Waits for a stage that consumers give back, which they may do only when they hear of the tiles that are on their
  /// way.
  __device__ void await(Barrier& empty, int phase) {
#pragma unroll 1
    while (unannounced_ > 1 || (unannounced_ == 1 && !__all_sync(~0U, empty.test(phase)))) announce();
    empty.wait(phase);
  }

  /// Threads' copies arrive late: a tile is announced when the next one is on its way.
  __device__ void publish(Barrier* full) {
    if constexpr (kByCopyEngine) return;
    close_copies();
    copied(next_).full = full;
    next_ ^= 1;
    ++unannounced_;
  }

  __device__ void announce_all() {
    while (unannounced_ > 0) announce();
  }

  /// Announces the tile that has been on its way for longest.
  __device__ void announce() {
    if (unannounced_ > 1) {
      wait_for_copies<1>();
    } else {
      wait_for_copies<0>();
    }
    const int number = next_ ^ (unannounced_ & 1);
    const CopiedTile& tile = copied(number);
    __syncwarp();  // all lanes' copies have arrived
    if (has_halves() && tile.shifts) shift_rows(tile, number);
    if (tile.full != nullptr) {
      fence_async_proxy();
      tile.full->arrive();
    }
    --unannounced_;
  }

  const Parameters& p_;
  SharedMemory<Config>& shared_;
  int thread_;
  int lane_;
  int axis_;  // that this lane knows, as this warpgroup sees it
  int warpgroup_;
  RingPosition<Config::kRowStages> row_ring_;
  RingPosition<Config::kStages> key_ring_, value_ring_;
  int next_ = 0;         // of the last two tiles that threads copy, that which the next one replaces
  int unannounced_ = 0;  // tiles on their way by threads
  int laid_ = 0;         // tiles of columns, the last ones, of which sums are still to be added
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
