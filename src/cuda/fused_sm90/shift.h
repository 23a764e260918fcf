#pragma once

// Rows that begin between multiples of 16 bytes are copied by the aligned pieces of 16 that hold them, and shifted in
// shared memory. Host and device: the same function is tested without a GPU.

#include <cstdint>

#include "core/window.h"

namespace vicinal::cuda::sm90 {

/// What threads copy at a time.
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

/// The 16 bytes that begin `shift` bytes, an even number below 16, into the first of two pieces that follow each other.
/// Of a row piece by piece, most of what a call selects the next one selects again, and compilers keep it.
VICINAL_HOST_DEVICE inline Piece shifted(const Piece& first, const Piece& second, int shift) {
  std::uint32_t words[8];
  for (int w = 0; w < 4; ++w) {
    words[w] = first.words[w];
    words[w + 4] = second.words[w];
  }
  for (int w = 0; w < 6; ++w) words[w] = (shift & 8) != 0 ? words[w + 2] : words[w];
  for (int w = 0; w < 5; ++w) words[w] = (shift & 4) != 0 ? words[w + 1] : words[w];
  Piece result;
  for (int w = 0; w < 4; ++w) result.words[w] = funnel(words[w], words[w + 1], (shift & 2) * 8);
  return result;
}

}  // namespace vicinal::cuda::sm90
