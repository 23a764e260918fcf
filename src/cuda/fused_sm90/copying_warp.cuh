#pragma once

// How a warp of the producer copies tiles that the copy engine cannot read.

#include "cuda/fused_sm90/block.cuh"
#include "cuda/fused_sm90/parameters.h"
#include "cuda/fused_sm90/shift.h"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

/// Copies rows of tiles, several lanes a row, by `cp.async` of as many bytes, 16, 8 or 4, as all rows of the tile are
/// aligned to. Where some do not even begin at words the words are copied that hold them, and when they have arrived
/// shifted where they lie, or, where they may stay rotated, given what they are to begin with (shift.h).
///
/// A warp with several stages of its own announces a tile when the next has been asked for, or when it would have to
/// wait for a stage that consumers may give back only when they have that tile; else when it has arrived.
template <class Config>
class CopyingWarp {
  using Element = typename Config::Element;
  static constexpr bool kDefers = SharedMemory<Config>::kCopiedTiles > 1;
  static constexpr int kSwizzledRows = 8;  // whose pieces are in different banks
  static constexpr bool kFillsChunks = SharedMemory<Config>::kFillsChunks;
  /// Where tiles are announced when they have arrived, and rows have to be shifted, the chunks from here on are copied
  /// first, and shifted while the others arrive: in backward passes, where it is faster.
  static constexpr int kMiddle = Config::kChunks / 2;
  static constexpr bool kHalves = SharedMemory<Config>::kShiftsHalves;

 public:
  /// The thread's number among those that produce.
  __device__ CopyingWarp(const Parameters& p, SharedMemory<Config>& shared, int thread)
      : p_(p), shared_(shared), thread_(thread) {}

  /// Some rows of a tile, kCopied from `first` on: those at the positions of `shape`, or consecutive extra tokens where
  /// there are no `positions`. `offsets` are elements from the tile's first token, where they are known. `full` is
  /// arrived at when they are there, if it is given.
  /// Where rows are `rotated` all of the tile begin between words, and are to be left so (shift.h).
  template <int kCopied, int kRows>
  __device__ void copy(const View& from, int dim, bool rotated, const TileShape& shape, const PackedPosition* positions,
                       const std::int64_t* offsets, const TileOrigin& origin, int first,
                       std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier* full) {
    static_assert(kCopied % kSwizzledRows == 0);
    __syncwarp();  // lanes may still read what they know of the tile before
    OnItsWay tile{.full = full,
                  .address = shared_address(&to[0][first][0]),
                  .shifts = 0,
                  .rows = kCopied,
                  .room = kRows,
                  .is_full = kFillsChunks && dim == Config::kChunks * kChunk,
                  .is_rotated = false,
                  .last = dim == Config::kDim};
    const unsigned begins = find_rows<kCopied>(from, shape, positions, offsets, origin, first, tile.shifts);
    tile.is_rotated = rotated && begins % 4 != 0;  // else no row holds a token
    const auto bytes = static_cast<unsigned>(dim) * static_cast<unsigned>(sizeof(Element));
    if (begins % 8 != 0) {
      if (begins % 4 != 0) {
        copy_ends_of_shifted(bytes, tile);
      } else {
        copy_ends<4>(bytes, tile);
      }
      if constexpr (kHalves) {
        copy_rows<4, kCopied, kRows, kMiddle, Config::kChunks>(bytes, tile.address);
        close_copies();
        copy_rows<4, kCopied, kRows, 0, kMiddle>(bytes, tile.address);
      } else {
        copy_rows<4, kCopied, kRows>(bytes, tile.address);
      }
    } else if (begins % 16 != 0) {
      copy_ends<8>(bytes, tile);
      copy_rows<8, kCopied, kRows>(bytes, tile.address);
    } else {
      copy_ends<16>(bytes, tile);
      copy_rows<16, kCopied, kRows>(bytes, tile.address);
    }
    close_copies();
    if constexpr (kDefers) {
      if (waiting_) {
        wait_for_copies<1>();
        announce(tile_, slot_ ^ 1);
      }
      tile_ = tile;
      waiting_ = true;
      slot_ ^= 1;
    } else {
      if constexpr (kHalves) {
        if (begins % 4 != 0) {
          wait_for_copies<1>();
          __syncwarp();
          shift_rows(tile, 0, kMiddle, Config::kChunks);
        }
      }
      wait_for_copies<0>();
      announce(tile, 0);
    }
  }

  /// Waits for a stage that consumers give back.
  __device__ void await(Barrier& empty, int phase) {
    if (kDefers && waiting_ && !__all_sync(~0U, empty.test(phase))) announce_last();
    empty.wait(phase);
  }

  /// Announces what is on its way, if there is anything.
  __device__ void announce_last() {
    if (!waiting_) return;
    wait_for_copies<0>();
    announce(tile_, slot_ ^ 1);
    waiting_ = false;
  }

 private:
  struct OnItsWay {
    Barrier* full;
    std::uint32_t address;  ///< of the first row, in shared memory
    unsigned shifts;        ///< which of this lane's rows begin between words
    std::uint8_t rows;      ///< that are copied
    std::uint8_t room;      ///< rows of a chunk
    bool is_full;           ///< they take all room
    bool is_rotated;        ///< they are not to be shifted, but to begin with their last element or with zero:
    bool last;              ///< which of the two
  };

  __device__ unsigned thread() const { return static_cast<unsigned>(computed_late(thread_)); }
  __device__ unsigned lane() const { return thread() % 32; }
  __device__ const std::uint8_t*& found(int slot, unsigned row) const {
    return shared_.found_rows[thread() / 32][slot][row];
  }
  __device__ std::uint32_t& middle(unsigned row) const { return shared_.row_middle[thread() / 32][kHalves ? row : 0]; }
  __device__ std::uint32_t& row_end(int slot, unsigned row) const { return shared_.row_end[thread() / 32][slot][row]; }

  /// Each lane finds rows for all. The result are the bits of their addresses, all together.
  template <int kCopied>
  __device__ unsigned find_rows(const View& from, const TileShape& shape, const PackedPosition* positions,
                                const std::int64_t* offsets, const TileOrigin& origin, int first,
                                unsigned& shifts) const {
    bool whole = positions != nullptr && offsets != nullptr;
#pragma unroll
    for (int a = 0; a < 3; ++a) {
      const TiledAxis& axis = p_.grid.axes[a];
      whole = whole && origin.token[a] + (shape.extent[a] - 1) * axis.dilation < axis.extent;
    }
    unsigned begins = 0;
    const auto keep = [&](unsigned r, const std::uint8_t* row) {
      const auto low = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(row));
      begins |= low;
      shifts |= low / 2 % 2 << r / 32;
      found(slot_, r) = row - low % 4;
    };
    if (whole) {
      const std::uint8_t* const tile = address_of(from, token_offset(from, origin.batch, origin.token, origin.head));
#pragma unroll
      for (unsigned r = lane(); r < kCopied; r += 32) {
        const int row = first + static_cast<int>(r);
        keep(r, row < shape.volume ? tile + offsets[row] * static_cast<int>(sizeof(Element)) : no_row(r));
      }
    } else {
#pragma unroll 1
      for (unsigned r = lane(); r < kCopied; r += 32) {
        const int row = first + static_cast<int>(r);
        keep(r, row < shape.volume ? find_row(from, row, r, positions, origin) : no_row(r));
      }
    }
    __syncwarp();
    return __reduce_or_sync(~0U, begins);
  }

  __device__ const std::uint8_t* find_row(const View& from, int row, unsigned r, const PackedPosition* positions,
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
    if (!exists) return no_row(r);
    return address_of(from, token_offset(from, origin.batch, token, origin.head));
  }

  __device__ static const std::uint8_t* address_of(const View& from, std::int64_t element) {
    return reinterpret_cast<const std::uint8_t*>(static_cast<const Element*>(from.data) + element);
  }

  /// What is copied where no token is: zeros, of each row others, since a line of the second-level cache that all warps
  /// of the device read is read by one after the other.
  __device__ static const std::uint8_t* no_row(unsigned row) {
    constexpr unsigned kZeroRows = 64;
    alignas(128) static const std::uint8_t rows[kZeroRows][Config::kChunks * 128] = {};
    return rows[row % kZeroRows];
  }

  /// What is left of rows when whole units have been copied, each lane of its rows, and zeros behind it.
  template <int kBytes>
  __device__ void copy_ends(unsigned bytes, const OnItsWay& tile) const {
    const unsigned rest = bytes % kBytes;
    if (rest == 0) return;
    const unsigned whole = bytes - rest;
#pragma unroll 1
    for (unsigned row = lane(); row < tile.rows; row += 32) {
      copy_unit<kBytes>(place_of(tile, row, whole), found(slot_, row) + whole, static_cast<int>(rest));
    }
  }

  /// Likewise what is in the word behind those that rows fill wherever they begin.
  __device__ void copy_ends_of_shifted(unsigned bytes, const OnItsWay& tile) const {
    const unsigned rest = bytes % 4;
    const unsigned whole = bytes - rest;
#pragma unroll 1
    for (unsigned row = lane(); row < tile.rows; row += 32) {
      const std::uint32_t place = tile.is_full ? shared_address(&row_end(slot_, row)) : place_of(tile, row, whole);
      copy_unit<4>(place, found(slot_, row) + whole, static_cast<int>(rest) + shift_of(tile, row));
    }
  }

  /// Bytes by which one of this lane's rows begins after a word.
  __device__ static int shift_of(const OnItsWay& tile, unsigned row) {
    return static_cast<int>(tile.shifts >> row / 32 & 1) * 2;
  }

  /// The address of the piece in which a byte of a row lies, where that is its first.
  __device__ static std::uint32_t place_of(const OnItsWay& tile, unsigned row, unsigned byte) {
    return tile.address + (byte / 128 * tile.room + row) * 128 + (byte % 128 ^ row % kSwizzledRows * 16);
  }

  template <int kBytes>
  __device__ static void copy_unit(std::uint32_t to, const void* from, int bytes) {
    if constexpr (kBytes == 16) copy_16(to, from, bytes);
    if constexpr (kBytes == 8) copy_8(to, from, bytes);
    if constexpr (kBytes == 4) copy_4(to, from, bytes);
  }

  /// Some lanes copy a row, each a unit of every so many; whole units alone.
  template <int kBytes, int kCopied, int kRows, int kFirstChunk = 0, int kEndChunk = Config::kChunks>
  __device__ void copy_rows(unsigned bytes, std::uint32_t to) const {
    constexpr int kRowLanes = kBytes == 4 && Config::kChunks > 1 ? 16 : 8;  // more would read addresses for fewer units
    constexpr int kRowsAtOnce = 32 / kRowLanes;
    constexpr int kStep = kRowLanes * kBytes;
    const unsigned begin = lane() % kRowLanes * kBytes;
    const int left = static_cast<int>(bytes / kBytes * kBytes - begin);
    const unsigned first = lane() / kRowLanes;
    const std::uint8_t* const* rows = &found(slot_, first);
    std::uint32_t target = to + first * 128 + (begin ^ first * 16);
#pragma unroll 2
    for (int row = 0; row < kCopied; row += kSwizzledRows) {
      const std::uint8_t* sources[kSwizzledRows / kRowsAtOnce];
#pragma unroll
      for (int r = 0; r < kSwizzledRows; r += kRowsAtOnce) sources[r / kRowsAtOnce] = rows[row + r];
#pragma unroll
      for (int r = 0; r < kSwizzledRows; r += kRowsAtOnce) {
        const std::uint8_t* source = computed_late(sources[r / kRowsAtOnce] + begin);  // once for all units
#pragma unroll
        for (int at = kFirstChunk * 128; at < kEndChunk * 128; at += kStep) {
          if (left <= at) continue;
          copy_unit<kBytes>((target ^ (r * 16 ^ at % 128)) + (r + at / 128 * kRows) * 128, source + at, kBytes);
        }
      }
      target += kSwizzledRows * 128;
    }
  }

  /// Tells consumers of rows whose copies have arrived, as far as this lane is concerned.
  __device__ void announce(const OnItsWay& tile, int slot) const {
    __syncwarp();
    if (Config::kRotates && tile.is_rotated) {
      rotate_rows(tile, slot);
    } else if (__any_sync(~0U, tile.shifts != 0)) {
      shift_rows(tile, slot, 0, kHalves ? kMiddle : Config::kChunks);
    }
    fence_async_proxy();
    __syncwarp();
    if (tile.full != nullptr && lane() == 0) tile.full->arrive();
  }

  /// Rows begin with what was before them in memory: each lane replaces that of its own.
  __device__ void rotate_rows(const OnItsWay& tile, int slot) const {
    constexpr unsigned kEnd = Config::kDim * sizeof(Element);
#pragma unroll 1
    for (unsigned row = lane(); row < tile.rows; row += 32) {
      std::uint16_t half = 0;
      if (tile.last) {
        half =
            load_shared<std::uint16_t>(kFillsChunks ? shared_address(&row_end(slot, row)) : place_of(tile, row, kEnd));
      }
      store_shared(place_of(tile, row, 0), half);
    }
  }

  /// Moves rows to where they are to begin, each lane its own: by the swizzle the same piece of eight rows is in
  /// different banks. (Lanes that share a row would have to wait for each other, which makes the producer spill.)
  __device__ void shift_rows(const OnItsWay& tile, int slot, int first_chunk, int end_chunk) const {
    constexpr int kPieces = 8;  // of a chunk; of the last one, those of which the head dims of the class take some:
    constexpr int kLastPieces = (Config::kHeads * Config::kDim * sizeof(Element) - 1) / sizeof(Piece) % kPieces + 1;
    // Pieces that are loaded before they are needed, for their latency, as registers suffice.
    constexpr int kAhead = Config::kSumsQueries && Config::kDim == 128 ? 2 : 3;
#pragma unroll 1
    for (unsigned row = lane(); row < tile.rows; row += 32) {
      const int shift = shift_of(tile, row);
      std::uint32_t at = tile.address + (first_chunk * tile.room + row) * 128 + row % kSwizzledRows * 16;
      if (kHalves && first_chunk > 0) middle(row) = load_shared(at);  // before it is shifted
      Piece pieces[kAhead];
#pragma unroll
      for (int p = 0; p < kAhead; ++p) pieces[p] = load_piece(at ^ p * sizeof(Piece));
#pragma unroll 1
      for (int chunk = first_chunk + 1; chunk <= end_chunk; ++chunk) {
        const std::uint32_t next_chunk = at + tile.room * 128;
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
          if (p >= kLastPieces && chunk == Config::kChunks) break;
          Piece ahead{};
          if (p + kAhead < kPieces) {
            ahead = load_piece(at ^ (p + kAhead) * sizeof(Piece));
          } else if (chunk < end_chunk) {
            ahead = load_piece(next_chunk ^ (p + kAhead - kPieces) * sizeof(Piece));
          } else if (p + kAhead == kPieces) {
            ahead.words[0] = behind_last(tile, slot, row, end_chunk);
          }
          const Piece result = shifted(pieces[0], pieces[1].words[0], shift);
          store_shared(at ^ p * sizeof(Piece),
                       uint4{result.words[0], result.words[1], result.words[2], result.words[3]});
#pragma unroll
          for (int i = 0; i + 1 < kAhead; ++i) pieces[i] = pieces[i + 1];
          pieces[kAhead - 1] = ahead;
        }
        at = next_chunk;
      }
    }
  }

  /// The word behind the last chunk that is shifted of a row.
  __device__ std::uint32_t behind_last(const OnItsWay& tile, int slot, unsigned row, int end_chunk) const {
    if (end_chunk < Config::kChunks) return middle(row);
    if (kFillsChunks && tile.is_full) return row_end(slot, row);
    return 0;
  }

  __device__ static Piece load_piece(std::uint32_t from) {
    const uint4 words = load_shared_16(from);
    return {{words.x, words.y, words.z, words.w}};
  }

  const Parameters& p_;
  SharedMemory<Config>& shared_;
  int thread_;
  // Where announcements are deferred:
  OnItsWay tile_{};
  bool waiting_ = false;  ///< the tile is to be announced
  int slot_ = 0;          ///< where the next one is remembered
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
