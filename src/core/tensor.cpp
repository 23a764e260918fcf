#include "vicinal/tensor.h"

#include <fmt/format.h>

#include "vicinal/error.h"

namespace vicinal {

Tensor contiguous(void* data, std::span<const std::int64_t> sizes, DType dtype, Device device) {
  if (sizes.size() > kMaxTensorRank) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("sizes has {} entries; allowed: at most {}", sizes.size(), kMaxTensorRank));
  }
  Tensor tensor{.data = data, .rank = static_cast<int>(sizes.size()), .dtype = dtype, .device = device};
  std::int64_t stride = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    tensor.sizes[i] = sizes[i];
    tensor.strides[i] = stride;
    stride *= sizes[i];
  }
  return tensor;
}

std::size_t size_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::fp64: return 8;
    case DType::fp32: return 4;
    case DType::fp16:
    case DType::bf16: return 2;
  }
  return 0;
}

std::string_view name_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::fp64: return "fp64";
    case DType::fp32: return "fp32";
    case DType::fp16: return "fp16";
    case DType::bf16: return "bf16";
  }
  return "unknown";
}

std::string_view name_of(DeviceType type) noexcept {
  switch (type) {
    case DeviceType::cpu: return "cpu";
    case DeviceType::cuda: return "cuda";
  }
  return "unknown";
}

}  // namespace vicinal
