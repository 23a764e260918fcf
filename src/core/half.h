#pragma once

// fp16 and bf16 in software: exact on every machine, round to nearest even, subnormals, infinities and NaN included.

#include <bit>
#include <cstdint>

namespace vicinal {

/// A 16-bit float with a sign bit, 15 - kMantissaBits exponent bits and kMantissaBits mantissa bits.
template <int kMantissaBits>
struct Float16 {
  static constexpr int kLeastExponent = 2 - (1 << (14 - kMantissaBits));  // of a normal number
  static constexpr std::uint16_t kInfinity = ((1 << (15 - kMantissaBits)) - 1) << kMantissaBits;
  static constexpr std::uint16_t kQuietNan = kInfinity | (1 << (kMantissaBits - 1));

  /// The bits of the number nearest to `value`; of two equally near, the one whose last bit is 0.
  static constexpr std::uint16_t encode(double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const auto sign = static_cast<std::uint16_t>(bits >> 63 << 15);
    const std::uint64_t magnitude = bits & ~(std::uint64_t{1} << 63);
    if (magnitude > kDoubleInfinity) return sign | kQuietNan;

    const int exponent = static_cast<int>(magnitude >> 52) - 1023;
    const int kept_exponent = exponent > kLeastExponent ? exponent : kLeastExponent;
    const int shift = 52 - kMantissaBits + kept_exponent - exponent;  // more where the result is subnormal
    if (shift > 53) return sign;                                      // below half of the smallest number
    // A double that is itself subnormal never gets here, so the leading one is always there.
    const std::uint64_t significand = (magnitude & (kDoubleOne - 1)) | kDoubleOne;
    // Adding just under half, or half when the kept part is odd, carries exactly when the rest rounds up.
    const std::uint64_t half = std::uint64_t{1} << (shift - 1);
    const std::uint64_t rounded = (significand + half - 1 + (significand >> shift & 1)) >> shift;
    // The leading one of `rounded` adds to the exponent field, so that a carry out of the mantissa is right too.
    const std::uint64_t code = (static_cast<std::uint64_t>(kept_exponent - kLeastExponent) << kMantissaBits) + rounded;
    return static_cast<std::uint16_t>(sign | (code < kInfinity ? code : kInfinity));
  }

  static constexpr float decode(std::uint16_t code) {
    constexpr int kExtraBits = 23 - kMantissaBits;
    const std::uint32_t sign = static_cast<std::uint32_t>(code >> 15) << 31;
    const std::uint32_t magnitude = code & 0x7fffU;
    if (magnitude >= kInfinity) {  // or NaN: all ones in the wider exponent, too
      return std::bit_cast<float>(sign | 0x7f800000U | (magnitude - kInfinity) << kExtraBits);
    }
    if constexpr (kLeastExponent > -126) {
      if (magnitude >> kMantissaBits == 0) {  // subnormal here, a normal float
        constexpr float kSmallest =
            std::bit_cast<float>(static_cast<std::uint32_t>(127 + kLeastExponent - kMantissaBits) << 23);
        const float value = static_cast<float>(magnitude) * kSmallest;
        return sign != 0 ? -value : value;
      }
    }
    constexpr auto kRebias = static_cast<std::uint32_t>(kLeastExponent + 126) << 23;
    return std::bit_cast<float>(sign | ((magnitude << kExtraBits) + kRebias));
  }

 private:
  static constexpr std::uint64_t kDoubleOne = std::uint64_t{1} << 52;
  static constexpr std::uint64_t kDoubleInfinity = std::uint64_t{0x7ff} << 52;
};

using Fp16 = Float16<10>;
using Bf16 = Float16<7>;

}  // namespace vicinal
