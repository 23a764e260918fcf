// Rows that threads of the Hopper kernels copy by words and shift or rotate, by the functions that the kernels call.

#include "cuda/fused_sm90/shift.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "check/random.h"

namespace vicinal::cuda::sm90 {
namespace {

TEST(Shift, MovesRowsDownPieceByPiece) {
  constexpr std::size_t kPieces = 9;
  check::Random random(7);
  std::array<Piece, kPieces> pieces{};
  for (Piece& piece : pieces) {
    for (std::uint32_t& word : piece.words) word = static_cast<std::uint32_t>(random.bits());
  }
  std::array<std::byte, sizeof(pieces)> bytes{};
  std::memcpy(bytes.data(), pieces.data(), sizeof(pieces));
  for (int shift = 0; shift < 4; shift += 2) {
    for (std::size_t p = 0; p + 1 < kPieces; ++p) {
      const Piece result = shifted(pieces[p], pieces[p + 1].words[0], shift);
      EXPECT_EQ(std::memcmp(&result, &bytes[16 * p + static_cast<std::size_t>(shift)], sizeof(result)), 0)
          << "piece " << p << ", shift " << shift;
    }
  }
}

TEST(Shift, RotatedRowsHoldEachElementOnce) {
  for (const int room : {32, 96, 256}) {
    std::vector<int> times(static_cast<std::size_t>(room));
    for (int position = 0; position < room; ++position) {
      const int element = rotated_element(position, room);
      ASSERT_TRUE(element >= 0 && element < room) << position;
      ++times[static_cast<std::size_t>(element)];
      EXPECT_EQ(element, position > 0 ? position - 1 : room - 1);
    }
    EXPECT_TRUE(std::ranges::all_of(times, [](int n) { return n == 1; }));
  }
}

}  // namespace
}  // namespace vicinal::cuda::sm90
