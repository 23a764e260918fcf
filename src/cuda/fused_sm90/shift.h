#pragma once

// Rows that begin between words are copied by the words that hold them, and shifted in shared memory. Host and device:
// the same function is tested without a GPU.

#include <cstdint>

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

}  // namespace vicinal::cuda::sm90
