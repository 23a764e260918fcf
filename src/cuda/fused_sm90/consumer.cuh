#pragma once

// What the consumer warpgroups of all fused Hopper kernels do: wait for tiles, multiply, find what rows see, and write
// rows.

#include "cuda/fused_sm90/block.cuh"
#include "cuda/fused_sm90/parameters.h"
#include "cuda/fused_sm90/shift.h"
#include "cuda/fused_sm90/wgmma.h"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

inline constexpr float kLog2E = 1.44269504088896341F;

template <class Element>
__device__ inline std::uint32_t packed(float low, float high) {
  std::uint32_t result;
  if constexpr (ElementTraits<Element>::kDType == DType::fp16) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  }
  return result;
}

template <class Element>
__device__ inline float2 unpacked(std::uint32_t pair) {
  return {widened(Element{static_cast<std::uint16_t>(pair)}), widened(Element{static_cast<std::uint16_t>(pair >> 16)})};
}

/// One consumer warpgroup: 64 rows.
template <class Config>
class Consumer {
 protected:
  using Element = typename Config::Element;
  using ColumnTile = typename SharedMemory<Config>::ColumnTile;
  static constexpr int kScores = Config::kColumns / 2;  // registers of a thread, for one head
  static constexpr int kSums = Config::kDim / 2;
  static constexpr int kDepth = 16;                            // of one product
  static constexpr bool kKeepsPositions = Config::kDim < 128;  // where sums leave registers
  /// From one head of a row to the next.
  static constexpr int kHeadBytes = Config::kDim * static_cast<int>(sizeof(Element));

  /// Where a box goes: as in ItemNote.
  struct Place {
    std::int64_t first[kRowViews];
    std::uint32_t members;
  };

  __device__ Consumer(const Parameters& p, SharedMemory<Config>& shared, int warpgroup)
      : p_(p), shared_(shared), warpgroup_(warpgroup), lane_(static_cast<int>(threadIdx.x) % 32) {
#pragma unroll
    for (int r = 0; r < 2; ++r) at_[r] = position(r);
  }

  /// Of this warpgroup's four.
  __device__ static int warp() { return static_cast<int>(static_cast<unsigned>(thread_number_late()) / 32 % 4); }

  /// The first of this thread's rows, or the second.
  __device__ int row(int i) const { return row(i, warp()); }
  __device__ int row(int i, int warp) const {
    return warp * 16 + i * 8 + static_cast<int>(static_cast<unsigned>(computed_late(lane_)) / 4);
  }

  /// Of one of them in the box; those without a token see what the first row does.
  __device__ PackedPosition position(int i) const {
    const PackedPosition at = shared_.row_position[row(i)];
    return at.holds_token() ? at : PackedPosition();
  }

  __device__ void release(Barrier& empty) const {
    if (lane_ == 0) empty.arrive();
  }

  /// The same of column tiles, to all blocks that fill the stage.
  __device__ void release_columns(Barrier& empty) const {
    if constexpr (Config::kMayShare) {
      if (lane_ < p_.grid.sharers) empty.arrive_in(lane_);
    } else {
      release(empty);
    }
  }

  /// Lets tiles pass that this warpgroup does not need. They are waited for, so that no stage is released twice.
  __device__ void skip(int count) {
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      shared_.key_full[ring_.stage].wait(ring_.phase);
      release_columns(shared_.key_empty[ring_.stage]);
      shared_.value_full[ring_.stage].wait(ring_.phase);
      release_columns(shared_.value_empty[ring_.stage]);
      ring_.advance();
    }
  }

  /// Waits for the next key tile, if it was not `there` when last looked for, and reads its note.
  __device__ void await_keys(bool there = false) {
    if (!there) shared_.key_full[ring_.stage].wait(ring_.phase);
    what_ = shared_.tile[ring_.stage][warpgroup_].what;
  }

  /// scores (+)= the rows' vectors of one kind x those of a tile, begun; of the head of that number in a row.
  __device__ void begin_scores(float (&scores)[kScores], int kind, const ColumnTile& tile, bool adds = false,
                               int head = 0) {
    const std::uint64_t rows =
        tile_descriptor(shared_address(&shared_.row[row_ring_.stage][kind][warpgroup_]) + head * kHeadBytes, 1024, 0);
    const std::uint64_t columns = tile_descriptor(shared_address(&tile) + head * kHeadBytes, 1024, 0);
    pin(scores);
    open_products();
#pragma unroll
    for (int k = 0; k < Config::kDim / kDepth; ++k) {
      const int chunk = k * kDepth / kChunk;
      const int within = k * kDepth % kChunk * static_cast<int>(sizeof(Element));
      Wgmma<Config::kColumns>::template multiply<Element>(scores, advanced(rows, chunk * kWarpgroupRows * 128 + within),
                                                          advanced(columns, chunk * Config::kColumns * 128 + within),
                                                          k > 0 || adds);
    }
    close_products();
  }

  /// sums (+)= weights x the vectors of a tile, begun; likewise.
  __device__ void begin_sums(float (&sums)[kSums], const std::uint32_t (&weights)[kScores / 2], const ColumnTile& tile,
                             bool adds = true, int head = 0) {
    const std::uint64_t columns =
        tile_descriptor(shared_address(&tile) + head * kHeadBytes, 1024, Config::kColumns * 128);
    pin(sums);
    open_products();
#pragma unroll
    for (int k = 0; k < Config::kColumns / kDepth; ++k) {
      Wgmma<Config::kDim>::template accumulate<Element>(sums, weights + 4 * k, advanced(columns, k * kDepth * 128),
                                                        k > 0 || adds);
    }
    close_products();
  }

  /// Which columns of the key tile each row sees, found while the tensor cores multiply.
  /// `is_first`: the tile follows none that the warpgroup attended to.
  __device__ void find_visible(bool is_first) {
    const bool begins = is_first || (what_ & TileNote::kBegins) != 0;
    if (!TileNote::touched(what_)) {
      if (begins) kept_[0] = kept_[1] = ~0U;  // neighbors along the fast axis may be touched
      return;
    }
    PackedPosition at[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) at[r] = kKeepsPositions ? at_[r] : position(r);
    const Range* table = shared_.row_columns[row_ring_.stage][warpgroup_];
    const int* extent = p_.grid.rows.extent;
    const auto seen = [&](int r, int axis) {
      return table[(axis > 0 ? extent[0] : 0) + (axis > 1 ? extent[1] : 0) + at[r].along(axis)];
    };
    shared_.masks.visible(p_.grid, shared_.tile[ring_.stage][warpgroup_],
                          shared_.item[row_ring_.stage][warpgroup_].fast_axis, seen, lane_ % 4, begins, kept_,
                          visible_);
    if constexpr (Config::kSumsQueries) {  // sums over rows
      const std::uint32_t members = shared_.item[row_ring_.stage][warpgroup_].members;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (!is_member(shared_.row_position[row(r)], members)) visible_[r] = 0;
      }
    }
  }

  /// Whether the row of a score, of this thread's registers, sees its column; where the tile is touched.
  __device__ bool sees(int score) const { return (visible_[score / 2 % 2] >> (score / 4 * 2 + score % 2) & 1) != 0; }

  /// Whether a row of the box holds a token.
  __device__ static bool is_member(PackedPosition at, std::uint32_t members) {
    // With the top bit of each byte set nothing is borrowed: it stays set where the position is not below.
    constexpr std::uint32_t kTop = 0x808080;
    return (((at.bits() | kTop) - members) & kTop) == 0;
  }

  /// Elements from the beginning of a view to one of its rows; `row` is a row of the box that holds a token.
  __device__ std::int64_t offset_of(const Place& place, int view, int row) const {
    return place.first[view] + shared_.row_offset[view][row];
  }

  /// Writes the rows of the box, each multiplied by a factor, to one of the views, whose vectors have `dim` elements.
  __device__ void write_rows(const Place& place, int view, const float (&sums)[kSums], const float (&factor)[2],
                             int dim) {
    write_rows(place, view, dim,
               [&](int i) { return packed<Element>(sums[i] * factor[i / 2 % 2], sums[i + 1] * factor[i / 2 % 2]); });
  }

  /// The same, where pair(i) is what is written of this thread's sums i and i + 1; those of all heads in a row one
  /// after the other, and `dim` for all of them.
  ///
  /// They go through shared memory, a chunk at a time, so that lanes write 16 bytes that follow each other: lane l
  /// piece l % 8 of rows l / 8, l / 8 + 4, ... What it waits for is asked for all at once, as nothing else goes on
  /// meanwhile.
  template <class Pair>
  __device__ void write_rows(const Place& place, int view, int dim, Pair pair) {
    constexpr int kWidth = 8;
    constexpr int kPasses = 4;
    constexpr int kPairs = Config::kHeads * kSums / 2;
    const auto thread = static_cast<unsigned>(thread_number_late());
    const unsigned lane = thread % 32;
    const unsigned first = thread / 32 % 4 * 16;  // row of this warp
    const unsigned row = first + lane / 8;        // of the first pass
    bool exists[kPasses];
    Element* to[kPasses];  // anywhere, where no token is
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      exists[pass] = is_member(shared_.row_position[row + 4 * pass], place.members);
      to[pass] = static_cast<Element*>(p_.rows[view].data) + offset_of(place, view, row + 4 * pass) + lane % 8 * kWidth;
    }
    const std::uint32_t rows = shared_address(&shared_.output[0][warpgroup_][0][0]);
    const std::uint32_t laid = rows + (first + lane % 16) * 128 + (lane / 16 ^ lane % 8) * 16;
    const std::uint32_t read = rows + row * 128 + (lane % 8 ^ lane / 8) * 16;
#pragma unroll
    for (int chunk = 0; chunk < Config::kChunks; ++chunk) {
      __syncwarp();
#pragma unroll
      for (int j = 0; j < 16 && chunk * 16 + j < kPairs; j += 4) {
        const int o = (chunk * 16 + j) * 2;
        store_matrices(laid ^ j * 8, pair(o), pair(o + 2), pair(o + 4), pair(o + 6));
      }
      __syncwarp();
      if (Config::kRotates && (place.members & ItemNote::kRotated) != 0) {
        write_units<std::uint16_t, true>(place, view, chunk, dim, rows, first);
      } else if (p_.stored_bytes == 16) {
        if (chunk * kChunk + static_cast<int>(lane % 8) * kWidth >= dim) continue;
        uint4 piece[kPasses];
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) piece[pass] = load_shared_16((read ^ pass % 2 * 64) + pass * 512);
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
          if (exists[pass]) store_global(to[pass] + chunk * kChunk, piece[pass]);
        }
      } else if (p_.stored_bytes == 4) {
        write_units<std::uint32_t>(place, view, chunk, dim, rows, first);
      } else {
        write_units<std::uint16_t>(place, view, chunk, dim, rows, first);
      }
    }
  }

  /// A chunk of this warp's rows, from shared memory, where they may be written a few bytes at a time only. Lanes write
  /// a row, or two, from one end to the other, so that it leaves in a piece.
  template <class Unit, bool kRotated = false>
  __device__ void write_units(const Place& place, int view, int chunk, int dim, std::uint32_t rows,
                              unsigned first) const {
    constexpr unsigned kRows = 16;
    constexpr unsigned kRowBytes = smaller(128, kHeadBytes * Config::kHeads);
    constexpr unsigned kRowLanes = smaller(32, kRowBytes / sizeof(Unit));
    const auto lane = static_cast<unsigned>(computed_late(lane_));
    const unsigned begin = lane % kRowLanes * sizeof(Unit);
    const int end = kRotated ? smaller(dim + 1, Config::kDim) : dim;               // of what the row takes
    const int bytes = (end - chunk * kChunk) * static_cast<int>(sizeof(Element));  // from this chunk on
    // Each lane finds a row, or none where no token is, for all.
    const unsigned found = first + lane % kRows;
    long long rows_found = 0;
    if (is_member(shared_.row_position[found], place.members)) {
      auto* const data = static_cast<Element*>(p_.rows[view].data) + chunk * kChunk;
      rows_found = reinterpret_cast<long long>(data + offset_of(place, view, static_cast<int>(found)));
    }
#pragma unroll 4
    for (unsigned r = 0; r < kRows; r += 32 / kRowLanes) {
      const unsigned row = first + r + lane / kRowLanes;
      auto* const to = reinterpret_cast<Element*>(__shfl_sync(~0U, rows_found, static_cast<int>(row - first)));
#pragma unroll
      for (unsigned byte = begin; byte < kRowBytes; byte += kRowLanes * sizeof(Unit)) {
        const Unit unit = load_shared<Unit>(rows + row * 128 + (byte ^ row % 8 * 16));
        if (to == nullptr || static_cast<int>(byte) >= bytes) continue;
        int at = static_cast<int>(byte / sizeof(Element));
        if constexpr (kRotated) {
          const int element = rotated_element(chunk * kChunk + at, Config::kDim);
          if (element >= dim) continue;
          at = element - chunk * kChunk;
        }
        store_global(to + at, unit);
      }
    }
  }

  __device__ static Place place_of(const ItemNote& note) {
    Place place{{}, note.members};
#pragma unroll
    for (int v = 0; v < kRowViews; ++v) place.first[v] = note.first[v];
    return place;
  }

  const Parameters& p_;
  SharedMemory<Config>& shared_;
  int warpgroup_;
  int lane_;
  RingPosition<Config::kRowStages> row_ring_;
  RingPosition<Config::kStages> ring_;  // of tiles, keys and values

  int what_;                  // of the key tile: TileNote
  std::uint32_t visible_[2];  // of its columns by each row, if it is touched
  std::uint32_t kept_[2];     // the same along all axes but the fast one
  PackedPosition at_[2];      // of this thread's rows, where they are kept
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
