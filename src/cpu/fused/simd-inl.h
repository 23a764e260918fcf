// The inner loops of the fused CPU kernels, compiled once per SIMD target. Included by forward.cpp and backward.cpp
// inside Highway's foreach_target; see tile.h for the data layout.

#if defined(VICINAL_CPU_FUSED_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VICINAL_CPU_FUSED_SIMD_INL_H_
#undef VICINAL_CPU_FUSED_SIMD_INL_H_
#else
#define VICINAL_CPU_FUSED_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "cpu/fused/tile.h"

HWY_BEFORE_NAMESPACE();
namespace vicinal::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Vectors of compute type C, at most kLanes wide.
template <class C>
using Tag = hn::CappedTag<C, kLanes>;

template <class C>
using Vec = hn::Vec<Tag<C>>;

/// Vectors that make up a score row of kLanes queries.
template <class C>
inline constexpr int kVectorLanes = static_cast<int>(hn::MaxLanes(Tag<C>()));
template <class C>
inline constexpr int kVectors = static_cast<int>(kLanes) / kVectorLanes<C>;

/// Rows of a register block: rows x kVectors accumulators plus operands fill the register file.
template <class C>
inline constexpr int kRows = [] {
  constexpr bool many_registers = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON;
  constexpr int rows = ((many_registers ? 32 : 16) - 4) / kVectors<C>;
  return rows < 1 ? 1 : (rows > 8 ? 8 : rows);
}();

// ---------------------------------------------------------------------------------------------------------------------
// Element conversion. Compute type is double for double, float for everything else.

template <class Element>
using Compute = std::conditional_t<std::is_same_v<Element, double>, double, float>;

/// destination[0, count) = source[0, count) in compute type.
template <class Element>
HWY_INLINE void load_row(const Element* HWY_RESTRICT source, Compute<Element>* HWY_RESTRICT destination,
                         std::int64_t count) {
  using C = Compute<Element>;
  const Tag<C> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  if constexpr (std::is_same_v<Element, C>) {
    for (; i + lanes <= count; i += lanes) hn::StoreU(hn::LoadU(d, source + i), d, destination + i);
    for (; i < count; ++i) destination[i] = source[i];
  } else {
    const hn::Rebind<Element, Tag<C>> narrow;
    for (; i + lanes <= count; i += lanes) {
      hn::StoreU(hn::PromoteTo(d, hn::LoadU(narrow, source + i)), d, destination + i);
    }
    const hn::CappedTag<C, 1> one;
    const hn::Rebind<Element, decltype(one)> narrow_one;
    for (; i < count; ++i) hn::StoreU(hn::PromoteTo(one, hn::LoadU(narrow_one, source + i)), one, destination + i);
  }
}

/// float to bfloat16 with round to nearest even; NaN stays NaN.
template <class D, class V>
HWY_INLINE auto rounded_bfloat16_bits([[maybe_unused]] D d, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x00400000));
  return hn::ShiftRight<16>(hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded));
}

template <class Element, class D>
HWY_INLINE void store_converted([[maybe_unused]] D d, hn::Vec<D> v, Element* destination) {
  if constexpr (std::is_same_v<Element, hwy::bfloat16_t>) {
    const hn::Rebind<std::uint16_t, D> narrow;
    hn::StoreU(hn::TruncateTo(narrow, rounded_bfloat16_bits(d, v)), narrow,
               reinterpret_cast<std::uint16_t*>(destination));
  } else {
    const hn::Rebind<Element, D> narrow;
    hn::StoreU(hn::DemoteTo(narrow, v), narrow, destination);
  }
}

/// destination[0, count) = source[0, count) * factor in element type, rounded to nearest even.
template <class Element>
HWY_INLINE void store_row(const Compute<Element>* HWY_RESTRICT source, Compute<Element> factor,
                          Element* HWY_RESTRICT destination, std::int64_t count) {
  using C = Compute<Element>;
  const Tag<C> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, factor);
  std::int64_t i = 0;
  if constexpr (std::is_same_v<Element, C>) {
    for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, source + i), scale), d, destination + i);
    for (; i < count; ++i) destination[i] = source[i] * factor;
  } else {
    for (; i + lanes <= count; i += lanes)
      store_converted(d, hn::Mul(hn::LoadU(d, source + i), scale), destination + i);
    const hn::CappedTag<C, 1> one;
    for (; i < count; ++i) {
      store_converted(one, hn::Mul(hn::LoadU(one, source + i), hn::Set(one, factor)), destination + i);
    }
  }
}

/// destination[0, count) += source[0, count) * factor.
template <class C>
HWY_INLINE void add_row(const C* HWY_RESTRICT source, C factor, C* HWY_RESTRICT destination, std::int64_t count) {
  const Tag<C> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, factor);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, source + i), scale, hn::LoadU(d, destination + i)), d, destination + i);
  }
  for (; i < count; ++i) destination[i] += source[i] * factor;
}

// ---------------------------------------------------------------------------------------------------------------------
// Transposition between token rows [16][width] and lanes [width][16]. Rows of `rows` are `pitch` elements apart;
// widths are rounded up to 4, so both sides have room for that.

template <class C>
HWY_INLINE void transpose_4x4(const C* HWY_RESTRICT from, std::int64_t from_pitch, C* HWY_RESTRICT to,
                              std::int64_t to_pitch) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) to[i * to_pitch + j] = from[j * from_pitch + i];
}

#if HWY_TARGET != HWY_SCALAR
/// In 128-bit vectors, native on every SIMD target.
HWY_INLINE void transpose_4x4(const float* HWY_RESTRICT from, std::int64_t from_pitch, float* HWY_RESTRICT to,
                              std::int64_t to_pitch) {
  const hn::Full128<float> d;
  const hn::Full128<double> wide;
  const auto a = hn::LoadU(d, from);
  const auto b = hn::LoadU(d, from + from_pitch);
  const auto c = hn::LoadU(d, from + 2 * from_pitch);
  const auto e = hn::LoadU(d, from + 3 * from_pitch);
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d, a, b));
  const auto ce_low = hn::BitCast(wide, hn::InterleaveLower(d, c, e));
  const auto ab_high = hn::BitCast(wide, hn::InterleaveUpper(d, a, b));
  const auto ce_high = hn::BitCast(wide, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, ab_low, ce_low)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, ab_low, ce_low)), d, to + to_pitch);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, ab_high, ce_high)), d, to + 2 * to_pitch);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, ab_high, ce_high)), d, to + 3 * to_pitch);
}
#endif

/// lanes [padded(width)][16] from rows [16][pitch].
template <class C>
HWY_NOINLINE void rows_to_lanes(const C* HWY_RESTRICT rows, std::int64_t pitch, std::int64_t width,
                                C* HWY_RESTRICT lanes) {
  for (std::int64_t w = 0; w < width; w += 4)
    for (std::int64_t lane = 0; lane < kLanes; lane += 4)
      transpose_4x4(rows + lane * pitch + w, pitch, lanes + w * kLanes + lane, kLanes);
}

/// rows [16][pitch] from lanes [padded(width)][16].
template <class C>
HWY_NOINLINE void lanes_to_rows(const C* HWY_RESTRICT lanes, std::int64_t width, C* HWY_RESTRICT rows,
                                std::int64_t pitch) {
  for (std::int64_t w = 0; w < width; w += 4)
    for (std::int64_t lane = 0; lane < kLanes; lane += 4)
      transpose_4x4(lanes + w * kLanes + lane, kLanes, rows + lane * pitch + w, pitch);
}

// ---------------------------------------------------------------------------------------------------------------------
// Exponentials in base 2.

/// 2^x for x <= about 100: relative error below 2e-7 (float) or 1e-15 (double); exactly 0 for -inf; NaN stays NaN.
template <class C>
HWY_INLINE Vec<C> exp2(Vec<C> x) {
  const Tag<C> d;
  using Bits = hn::RebindToUnsigned<Tag<C>>;
  constexpr int mantissa_bits = std::numeric_limits<C>::digits - 1;
  constexpr int bias = std::numeric_limits<C>::max_exponent - 1;
  // Where one unit in the last place is 1, adding rounds to an integer, whose low bits then are a biased exponent.
  const auto rounder = hn::Set(d, C{1.5} * static_cast<C>(std::uint64_t{1} << mantissa_bits) + bias);
  // Clamped where that exponent is the one of zero. Operand order keeps NaN: x86 returns the second operand.
  const auto clamped = hn::Max(hn::Set(d, static_cast<C>(-bias)), x);
  const auto rounded = hn::Add(clamped, rounder);
  const auto power = hn::BitCast(d, hn::ShiftLeft<mantissa_bits>(hn::BitCast(Bits(), rounded)));
  const auto r = hn::Sub(clamped, hn::Sub(rounded, rounder));
  if constexpr (std::is_same_v<C, float>) {
    // Near-minimax on [-1/2, 1/2] with p(0) = 1.
    auto p = hn::Set(d, 0x1.5bba14p-10F);
    p = hn::MulAdd(p, r, hn::Set(d, 0x1.3cea88p-7F));
    p = hn::MulAdd(p, r, hn::Set(d, 0x1.c6b752p-5F));
    p = hn::MulAdd(p, r, hn::Set(d, 0x1.ebf9bcp-3F));
    p = hn::MulAdd(p, r, hn::Set(d, 0x1.62e42ap-1F));
    return hn::Mul(hn::MulAdd(p, r, hn::Set(d, 1.0F)), power);
  } else {
    // Taylor of exp(r ln 2): the first term left out is below 1e-17.
    const auto t = hn::Mul(r, hn::Set(d, 0.693147180559945309417));
    auto p = hn::Set(d, 1.0 / 6227020800.0);
    for (const double inverse_factorial :
         {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0,
          1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0}) {
      p = hn::MulAdd(p, t, hn::Set(d, inverse_factorial));
    }
    return hn::Mul(hn::MulAdd(p, t, hn::Set(d, 1.0)), power);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Register-blocked products. `rows` selects rows of a staged tile [*][pitch]; after each register block, memory that is
// needed later is asked for.

/// block.operator()<rows>(begin), for a `rows` known at run time.
template <int kMostRows, class Block>
HWY_INLINE void call_with_rows(std::uint32_t rows, std::int64_t begin, const Block& block) {
  if constexpr (kMostRows > 1) {
    if (rows < kMostRows) return call_with_rows<kMostRows - 1>(rows, begin, block);
  }
  block.template operator()<kMostRows>(begin);
}

/// Register blocks of products(), or of accumulate() for a width; `count` may be zero.
template <class C>
constexpr std::int64_t row_blocks(std::int64_t count) {
  return ceil_div(count, kRows<C>);
}

/// Calls block.operator()<ROWS>(begin) for runs of ROWS <= kMostRows that cover [0, count) and are of nearly equal
/// size: a short last block would leave the multiply-add units waiting for their own results.
template <int kMostRows, class Block>
HWY_INLINE void in_row_blocks(std::int64_t count, const Block& block) {
  const auto rows = static_cast<std::uint32_t>(count);
  const std::uint32_t blocks = (rows + kMostRows - 1) / kMostRows;
  if (blocks == 0) return;
  const std::uint32_t small = rows / blocks;
  const std::uint32_t larger = rows % blocks;  // blocks with one row more come first
  std::int64_t begin = 0;
  for (std::uint32_t b = 0; b < blocks; ++b) {
    const std::uint32_t size = small + (b < larger ? 1 : 0);
    call_with_rows<kMostRows>(size, begin, block);
    begin += size;
  }
}

/// One register block of products(): ROWS output rows of kLanes.
template <int ROWS, class C>
HWY_INLINE void products_block(const C* HWY_RESTRICT tile, std::int64_t pitch, const std::int32_t* HWY_RESTRICT rows,
                               const C* HWY_RESTRICT lanes, std::int64_t depth, C* HWY_RESTRICT out) {
  const Tag<C> d;
  constexpr int N = kVectorLanes<C>;
  const C* row[ROWS];
  for (int i = 0; i < ROWS; ++i) row[i] = tile + rows[i] * pitch;
  Vec<C> sum[ROWS][kVectors<C>];
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < kVectors<C>; ++v) sum[i][v] = hn::Zero(d);
  for (std::int64_t t = 0; t < depth; ++t, lanes += kLanes) {
    Vec<C> b[kVectors<C>];
    for (int v = 0; v < kVectors<C>; ++v) b[v] = hn::Load(d, lanes + v * N);
    for (int i = 0; i < ROWS; ++i) {
      const auto a = hn::Set(d, row[i][t]);
      for (int v = 0; v < kVectors<C>; ++v) sum[i][v] = hn::MulAdd(a, b[v], sum[i][v]);
    }
  }
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < kVectors<C>; ++v) hn::Store(sum[i][v], d, out + i * kLanes + v * N);
}

/// out[j][lane] = sum over t of tile[rows[j]][t] * lanes[t][lane], for j in [0, count): scores, and dO . V.
template <class C>
HWY_NOINLINE void products(const C* HWY_RESTRICT tile, std::int64_t pitch, const std::int32_t* HWY_RESTRICT rows,
                           std::int64_t count, const C* HWY_RESTRICT lanes, std::int64_t depth, C* HWY_RESTRICT out,
                           Lookahead& ahead) {
  in_row_blocks<kRows<C>>(count, [&]<int ROWS>(std::int64_t j) HWY_ATTR {
    products_block<ROWS>(tile, pitch, rows + j, lanes, depth, out + j * kLanes);
    ahead.step();
  });
}

/// One register block of accumulate(): WIDTH output rows of kLanes.
template <int WIDTH, class C>
HWY_INLINE void accumulate_block(const C* HWY_RESTRICT tile, std::int64_t pitch, const std::int32_t* HWY_RESTRICT rows,
                                 std::int64_t count, const C* HWY_RESTRICT weights, C* HWY_RESTRICT out) {
  const Tag<C> d;
  constexpr int N = kVectorLanes<C>;
  Vec<C> sum[WIDTH][kVectors<C>];
  for (int i = 0; i < WIDTH; ++i)
    for (int v = 0; v < kVectors<C>; ++v) sum[i][v] = hn::Load(d, out + i * kLanes + v * N);
  for (std::int64_t j = 0; j < count; ++j, weights += kLanes) {
    const C* row = tile + rows[j] * pitch;
    Vec<C> b[kVectors<C>];
    for (int v = 0; v < kVectors<C>; ++v) b[v] = hn::Load(d, weights + v * N);
    for (int i = 0; i < WIDTH; ++i) {
      const auto a = hn::Set(d, row[i]);
      for (int v = 0; v < kVectors<C>; ++v) sum[i][v] = hn::MulAdd(a, b[v], sum[i][v]);
    }
  }
  for (int i = 0; i < WIDTH; ++i)
    for (int v = 0; v < kVectors<C>; ++v) hn::Store(sum[i][v], d, out + i * kLanes + v * N);
}

/// out[w][lane] += sum over j of tile[rows[j]][w] * weights[j][lane], for w in [0, width): P . V, and dS . K.
template <class C>
HWY_NOINLINE void accumulate(const C* HWY_RESTRICT tile, std::int64_t pitch, std::int64_t width,
                             const std::int32_t* HWY_RESTRICT rows, std::int64_t count, const C* HWY_RESTRICT weights,
                             C* HWY_RESTRICT out, Lookahead& ahead) {
  in_row_blocks<kRows<C>>(width, [&]<int ROWS>(std::int64_t w) HWY_ATTR {
    accumulate_block<ROWS>(tile + w, pitch, rows, count, weights, out + w * kLanes);
    ahead.step();
  });
}

/// One register block of scatter_products(): ROWS rows of kLanes columns.
template <int ROWS, class C>
HWY_INLINE void scatter_block(const C* HWY_RESTRICT weights, const C* HWY_RESTRICT columns, std::int64_t pitch,
                              C* HWY_RESTRICT tile, const std::int32_t* HWY_RESTRICT rows) {
  const Tag<C> d;
  constexpr int N = kVectorLanes<C>;
  Vec<C> sum[ROWS][kVectors<C>];
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < kVectors<C>; ++v) sum[i][v] = hn::Load(d, tile + rows[i] * pitch + v * N);
  for (std::int64_t lane = 0; lane < kLanes; ++lane, columns += pitch) {
    Vec<C> b[kVectors<C>];
    for (int v = 0; v < kVectors<C>; ++v) b[v] = hn::Load(d, columns + v * N);
    for (int i = 0; i < ROWS; ++i) {
      const auto a = hn::Set(d, weights[i * kLanes + lane]);
      for (int v = 0; v < kVectors<C>; ++v) sum[i][v] = hn::MulAdd(a, b[v], sum[i][v]);
    }
  }
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < kVectors<C>; ++v) hn::Store(sum[i][v], d, tile + rows[i] * pitch + v * N);
}

/// tile[rows[j]][w] += sum over lanes of weights[j][lane] * columns[lane][w], for j in [0, count), w in [0, pitch):
/// P^T . dO, and dS^T . Q. Rows of `tile` and `columns` are `pitch` elements, a multiple of 16.
template <class C>
HWY_NOINLINE void scatter_products(const C* HWY_RESTRICT weights, const C* HWY_RESTRICT columns, std::int64_t pitch,
                                   C* HWY_RESTRICT tile, const std::int32_t* HWY_RESTRICT rows, std::int64_t count,
                                   Lookahead& ahead) {
  for (std::int64_t w = 0; w < pitch; w += kLanes) {
    in_row_blocks<kRows<C>>(count, [&]<int ROWS>(std::int64_t j) HWY_ATTR {
      scatter_block<ROWS>(weights + j * kLanes, columns + w, pitch, tile + w, rows + j);
      ahead.step();
    });
  }
}

/// sum over [0, count) of a * b.
template <class C>
HWY_INLINE C dot(const C* HWY_RESTRICT a, const C* HWY_RESTRICT b, std::int64_t count) {
  const Tag<C> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  C total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

// ---------------------------------------------------------------------------------------------------------------------
// Masks.

/// table[c][lane] = all ones where begin[lane] <= c < end[lane], else zero, for c in [0, count).
template <class C>
HWY_INLINE void fill_mask_table(std::int64_t count, const C* HWY_RESTRICT begin, const C* HWY_RESTRICT end,
                                C* HWY_RESTRICT table) {
  const Tag<C> d;
  constexpr int N = kVectorLanes<C>;
  for (std::int64_t c = 0; c < count; ++c) {
    const auto here = hn::Set(d, static_cast<C>(c));
    for (int v = 0; v < kVectors<C>; ++v) {
      const auto attended = hn::And(hn::Ge(here, hn::Load(d, begin + v * N)), hn::Lt(here, hn::Load(d, end + v * N)));
      hn::Store(hn::VecFromMask(d, attended), d, table + c * kLanes + v * N);
    }
  }
}

}  // namespace vicinal::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
