#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

#include "vicinal/export.h"

namespace vicinal {

enum class DType : std::uint8_t { fp64, fp32, fp16, bf16 };
enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;  ///< CUDA ordinal; 0 on the CPU

  friend bool operator==(const Device&, const Device&) = default;
};

/// Batch, three axes, heads, head dim.
inline constexpr int kMaxTensorRank = 6;

/// A strided array that the library does not own. A default-constructed tensor (`data == nullptr`, rank 0) means
/// "absent".
struct Tensor {
  void* data = nullptr;
  int rank = 0;
  std::array<std::int64_t, kMaxTensorRank> sizes{};    ///< elements along each dimension; the first `rank` count
  std::array<std::int64_t, kMaxTensorRank> strides{};  ///< elements, not bytes; may be zero or, on the CPU, negative
  DType dtype = DType::fp32;
  Device device{};

  /// A tensor was given (an empty one may have no memory).
  [[nodiscard]] bool present() const noexcept { return rank != 0; }
};

/// A tensor over contiguous memory of the caller's, the last dimension fastest; `sizes` in elements.
/// Throws `Error` (invalid_argument) for more than `kMaxTensorRank` sizes.
VICINAL_API Tensor contiguous(void* data, std::span<const std::int64_t> sizes, DType dtype = DType::fp32,
                              Device device = {});
inline Tensor contiguous(void* data, std::initializer_list<std::int64_t> sizes, DType dtype = DType::fp32,
                         Device device = {}) {
  return contiguous(data, std::span(sizes.begin(), sizes.size()), dtype, device);
}

/// Bytes of one element.
VICINAL_API std::size_t size_of(DType dtype) noexcept;

/// "fp64", "fp32", "fp16" or "bf16".
VICINAL_API std::string_view name_of(DType dtype) noexcept;

/// "cpu" or "cuda".
VICINAL_API std::string_view name_of(DeviceType type) noexcept;

}  // namespace vicinal
