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

/// A view of half-precision vectors, of which none is read.
View random_view(check::Random& random) {
  View view;
  view.data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(4096 + 2 * random.between(0, 7)));
  const auto stride = [&] { return random.between(-5, 5); };
  view.batch_stride = stride();
  view.head_stride = stride();
  for (std::int64_t& axis : view.axis_stride) axis = random.chance(0.5) ? 2 * stride() : stride();
  return view;
}

/// Whether the vectors of a head begin between words at all of a few tokens; of even dims those of all heads.
bool begin_between_words(const View& view, int batch, int head, std::int64_t dim) {
  if (!view) return true;
  if (dim % 2 == 0 && (view.batch_stride % 2 != 0 || view.head_stride % 2 != 0)) return false;
  for (int token = 0; token < 8; ++token) {
    const std::int64_t offset = view.offset(batch, token & 1, token >> 1 & 1, token >> 2 & 1, head);
    if ((static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(view.data)) + 2 * offset) % 4 == 0) return false;
  }
  return true;
}

TEST(Shift, RowsAreRotatedWhereAllThatMeetBeginBetweenWords) {
  check::Random random(8);
  int rotated[2] = {};
  for (int n = 0; n < 4000; ++n) {
    const View query = random_view(random);
    const View key = random.chance(0.7) ? query : random_view(random);
    const View value = random_view(random);
    const View extra_key = random.chance(0.5) ? key : View{};
    const View extra_value = random.chance(0.5) ? random_view(random) : View{};
    const std::int64_t dim = random.between(1, 256);
    OddRows rows;
    rows.add(OddRows::query, query, dim);
    rows.add(OddRows::key, key, dim);
    rows.add(OddRows::extra_key, extra_key, dim);
    rows.add(OddRows::value, value, dim);
    rows.add(OddRows::extra_value, extra_value, dim);
    const auto batch = static_cast<int>(random.between(0, 3));
    const auto head = static_cast<int>(random.between(0, 5));
    const int head_kv = head / static_cast<int>(random.between(1, 3));
    const bool scored = begin_between_words(query, batch, head, dim) && begin_between_words(key, batch, head_kv, dim) &&
                        begin_between_words(extra_key, batch, head_kv, dim);
    const bool summed =
        begin_between_words(value, batch, head_kv, dim) && begin_between_words(extra_value, batch, head_kv, dim);
    ASSERT_EQ(rows.rotated(batch, head, head_kv), (scored ? 1U : 0U) | (summed ? 2U : 0U)) << n;
    rotated[0] += static_cast<int>(scored);
    rotated[1] += static_cast<int>(summed);
  }
  EXPECT_GT(rotated[0], 100);
  EXPECT_GT(rotated[1], 100);
}

}  // namespace
}  // namespace vicinal::cuda::sm90
