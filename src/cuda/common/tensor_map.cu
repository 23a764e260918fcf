#include "cuda/common/tensor_map.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>

namespace vicinal::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// The driver is not linked: machines without a GPU have none.
Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kCuda12 = 12000;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kCuda12, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess) {
    throw Error(ErrorKind::system, "the CUDA driver has no cuTensorMapEncodeTiled; it comes with CUDA 12.0 and later");
  }
  return reinterpret_cast<Encode>(function);
}

CUtensorMapDataType data_type(DType dtype) {
  switch (dtype) {
    case DType::fp64: return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case DType::fp32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::fp16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::bf16: break;
  }
  return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

}  // namespace

CUtensorMap tensor_map(const BoxedTensor& tensor) {
  static const Encode encode = find_encode();
  std::array<cuuint64_t, 5> extents{};
  std::array<cuuint64_t, 4> byte_strides{};
  std::array<cuuint32_t, 5> box{};
  std::array<cuuint32_t, 5> steps{};
  for (std::size_t a = 0; a < 5; ++a) {
    extents[a] = static_cast<cuuint64_t>(tensor.extent[a]);
    steps[a] = static_cast<cuuint32_t>(tensor.step[a]);
    // The driver counts a box in elements passed over, not in those copied.
    box[a] = static_cast<cuuint32_t>(tensor.box[a] * tensor.step[a]);
  }
  for (std::size_t a = 0; a < 4; ++a) {
    byte_strides[a] = static_cast<cuuint64_t>(tensor.stride[a]) * static_cast<cuuint64_t>(size_of(tensor.dtype));
  }
  CUtensorMap map{};
  const CUresult status = encode(&map, data_type(tensor.dtype), 5, tensor.data, extents.data(), byte_strides.data(),
                                 box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw Error(ErrorKind::system, "the CUDA driver refuses a tensor map, with status " + std::to_string(status));
  }
  return map;
}

}  // namespace vicinal::cuda
