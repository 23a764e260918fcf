#pragma once

// Rows that begin between words are copied by the words that hold them, and shifted in shared memory, or, where all
// rows of a product do, left rotated. Host and device: the same functions are tested without a GPU.

#include <cstdint>

#include "core/view.h"
#include "core/window.h"

namespace vicinal::cuda::sm90 {

/// What threads shift at a time.
struct alignas(16) Piece {
  std::uint32_t words[4];
};

/// The low 32 of 64 bits, moved down by fewer than 32.
VICINAL_HOST_DEVICE inline std::uint32_t funnel(std::uint32_t low, std::uint32_t high, unsigned bits) {
#if defined(__CUDA_ARCH__)
  return __funnelshift_r(low, high, bits);
#else
  return static_cast<std::uint32_t>((std::uint64_t{high} << 32 | low) >> bits);
#endif
}

/// The 16 bytes that begin `shift` bytes, 0 or 2, into a piece that the word `next` follows.
VICINAL_HOST_DEVICE inline Piece shifted(const Piece& piece, std::uint32_t next, int shift) {
  Piece result;
  for (int w = 0; w < 4; ++w) result.words[w] = funnel(piece.words[w], w < 3 ? piece.words[w + 1] : next, shift * 8);
  return result;
}

/// A rotated row of `room` elements begins with its last one, or with zero where it does not fill the room: each
/// element is one behind its place. Products of rotated rows are those of the rows, and what is summed up of rotated
/// rows is rotated. The result is the element at a position; none of the row where it is not below the row's number of
/// them.
VICINAL_HOST_DEVICE inline int rotated_element(int position, int room) {
  return position > 0 ? position - 1 : room - 1;
}

/// Which vectors of a forward pass begin between words, a bit for each tensor.
struct OddRows {
  enum Tensor : std::uint8_t { query = 1, key = 2, extra_key = 4, value = 8, extra_value = 16 };
  static constexpr unsigned kScored = query | key | extra_key;
  static constexpr unsigned kSummed = value | extra_value;

  std::uint8_t first = 0;     ///< those of the first token of the first head of the first batch entry
  std::uint8_t by_batch = 0;  ///< where others do in the next batch entry,
  std::uint8_t by_head = 0;   ///< ... of the next head,
  std::uint8_t by_token = 0;  ///< ... or of the next token along some axis, so that they are never rotated

  /// Of an even number of elements the last is behind those that other rows take, which do not clear its place: such
  /// rows are rotated only if those of all heads are.
  void add(Tensor tensor, const View& view, std::int64_t dim) {
    const auto note = [&](std::uint8_t& tensors, std::int64_t elements) {
      if (elements % 2 != 0) tensors |= tensor;
    };
    // A tensor that there is not has no rows to shift.
    note(first, view ? static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(view.data) / 2) : 1);
    note(by_batch, view.batch_stride);
    note(by_head, view.head_stride);
    for (const std::int64_t stride : view.axis_stride) note(by_token, stride);
    if (dim % 2 == 0) by_token |= (by_batch | by_head) & tensor;
  }

  /// Which rows of a work item are rotated: those that scores are made of, which meet in products, if the vectors of
  /// all of them begin between words (bit 0), and likewise those that are summed up (bit 1).
  VICINAL_HOST_DEVICE unsigned rotated(int batch, int head, int head_kv) const {
    const unsigned of_head =
        (head % 2 != 0 ? by_head & unsigned{query} : 0) | (head_kv % 2 != 0 ? by_head & ~unsigned{query} : 0);
    const unsigned odd = (first ^ (batch % 2 != 0 ? by_batch : 0U) ^ of_head) & ~unsigned{by_token};
    return ((odd & kScored) == kScored ? 1U : 0U) | ((odd & kSummed) == kSummed ? 2U : 0U);
  }
};

}  // namespace vicinal::cuda::sm90
