// fp16 and bf16: every number there is, and the rounding between each two of them.

#include "core/half.h"

#include <array>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/elements.h"

namespace vicinal {
namespace {

static_assert(Fp16::encode(1.0) == 0x3c00 && Fp16::encode(-2.0) == 0xc000);
static_assert(Bf16::encode(1.0) == 0x3f80 && Bf16::encode(-2.0) == 0xc000);

/// What IEEE 754 says the bits mean, in arithmetic.
double meaning(int code, int mantissa_bits) {
  const int bias = (1 << (14 - mantissa_bits)) - 1;
  const int exponent = (code & 0x7fff) >> mantissa_bits;
  const int mantissa = code & ((1 << mantissa_bits) - 1);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                         : std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  return (code & 0x8000) != 0 ? -magnitude : magnitude;
}

template <class Format>
void expect_numbers_are_exact(int mantissa_bits) {
  for (int code = 0; code < 0x10000; ++code) {
    const float value = Format::decode(static_cast<std::uint16_t>(code));
    if ((code & 0x7fff) > Format::kInfinity) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_EQ(Format::encode(value), Format::kQuietNan | (std::signbit(value) ? 0x8000 : 0)) << code;
      continue;
    }
    if ((code & 0x7fff) == Format::kInfinity) {
      ASSERT_TRUE(std::isinf(value)) << code;
    } else {
      ASSERT_EQ(value, meaning(code, mantissa_bits)) << code;
    }
    ASSERT_EQ(std::signbit(value), (code & 0x8000) != 0) << code;
    ASSERT_EQ(Format::encode(value), code);
  }
}

template <class Format>
void expect_rounding_to_nearest_even(int mantissa_bits) {
  for (int code = 0; code < Format::kInfinity; ++code) {
    // Beyond the largest number the next one would have been infinity's code, were it a number.
    const double low = meaning(code, mantissa_bits), high = meaning(code + 1, mantissa_bits);
    const double middle = (low + high) / 2;  // exact
    const int even = code % 2 == 0 ? code : code + 1;
    ASSERT_EQ(Format::encode(middle), even);
    ASSERT_EQ(Format::encode(std::nextafter(middle, low)), code);
    ASSERT_EQ(Format::encode(std::nextafter(middle, high)), code + 1);
    ASSERT_EQ(Format::encode(-middle), even | 0x8000);
  }
}

TEST(Half, EveryFp16NumberIsExact) { expect_numbers_are_exact<Fp16>(10); }
TEST(Half, EveryBf16NumberIsExact) { expect_numbers_are_exact<Bf16>(7); }
TEST(Half, Fp16RoundsToNearestEven) { expect_rounding_to_nearest_even<Fp16>(10); }
TEST(Half, Bf16RoundsToNearestEven) { expect_rounding_to_nearest_even<Bf16>(7); }

TEST(Half, ExtremesOfFloat64) {
  EXPECT_EQ(Fp16::encode(std::numeric_limits<double>::max()), 0x7c00);
  EXPECT_EQ(Bf16::encode(std::numeric_limits<double>::infinity()), 0x7f80);
  EXPECT_EQ(Fp16::encode(-std::numeric_limits<double>::denorm_min()), 0x8000);
  EXPECT_EQ(Bf16::encode(std::numeric_limits<double>::min()), 0);
  EXPECT_EQ(Bf16::encode(-0.0), 0x8000);
}

TEST(Elements, ReadsAndWritesEveryDtype) {
  const std::array<double, 3> values{0.5, -3.0, 1024.0};
  for (const DType dtype : {DType::fp64, DType::fp32, DType::fp16, DType::bf16}) {
    alignas(8) std::array<std::byte, 64> memory{};
    write_elements(memory.data(), dtype, 2, values);
    std::array<double, 4> read{};
    read_elements(memory.data(), dtype, 1, read);
    EXPECT_EQ(read, (std::array{0.0, 0.5, -3.0, 1024.0})) << name_of(dtype);
  }
}

TEST(Elements, RoundsAsItStores) {
  EXPECT_EQ(rounded_to(DType::fp64, 1.0 / 3), 1.0 / 3);
  EXPECT_EQ(rounded_to(DType::fp32, 1.0 / 3), static_cast<double>(1.0F / 3.0F));
  EXPECT_EQ(rounded_to(DType::fp16, 2049.0), 2048.0);
  EXPECT_EQ(rounded_to(DType::bf16, 257.0), 256.0);
}

}  // namespace
}  // namespace vicinal
