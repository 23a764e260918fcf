// What the Hopper kernels take for granted about the copy engine: boxes narrower than a row, every n-th token, boxes
// that start in the middle of a swizzled tile, tokens outside of the tensor, axes of stride 0, rank 5.

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "cuda/common/tensor_map.h"
#include "cuda/fused_sm90/ptx.h"

namespace vicinal::cuda {
namespace {

constexpr int kRows = 64;
constexpr int kColumns = 64;  // elements of a row of 128 bytes
constexpr std::uint16_t kUntouched = 0xFFFF;

struct Start {
  int at[5];
};

__global__ void load_kernel(const __grid_constant__ CUtensorMap map, Start start, int to_row, int bytes,
                            std::uint16_t* out) {
#if VICINAL_HOPPER_CODE
  __shared__ alignas(1024) std::uint16_t tile[kRows * kColumns];
  __shared__ sm90::Barrier arrived;
  for (int i = threadIdx.x; i < kRows * kColumns; i += blockDim.x) tile[i] = kUntouched;
  if (threadIdx.x == 0) {
    arrived.init(1);
    sm90::fence_barriers();
  }
  sm90::fence_async_proxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    arrived.arrive_expecting(bytes);
    sm90::load_box(map, sm90::shared_address(tile + to_row * kColumns), arrived, start.at[0], start.at[1], start.at[2],
                   start.at[3], start.at[4]);
  }
  arrived.wait(0);
  for (int i = threadIdx.x; i < kRows * kColumns; i += blockDim.x) out[i] = tile[i];
#endif
}

__global__ void store_kernel(const __grid_constant__ CUtensorMap map, Start start, const std::uint16_t* in) {
#if VICINAL_HOPPER_CODE
  __shared__ alignas(1024) std::uint16_t tile[kRows * kColumns];
  for (int i = threadIdx.x; i < kRows * kColumns; i += blockDim.x) tile[i] = in[i];
  sm90::fence_async_proxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    sm90::store_box(map, sm90::shared_address(tile), start.at[0], start.at[1], start.at[2], start.at[3], start.at[4]);
    asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;" ::: "memory");
  }
#endif
}

/// Where element `column` of row `row` lies in a swizzled tile.
int swizzled(int row, int column) { return row * kColumns + (((column / 8) ^ (row % 8)) * 8) + column % 8; }

class TensorMap : public testing::Test {
 protected:
  // [batch, x, y, z, heads * dim]
  static constexpr int kExtent[5] = {3 * 80, 11, 9, 5, 2};

  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no GPU on this machine";
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    if (major < 9) GTEST_SKIP() << "the GPU has no copy engine for tensors; it comes with compute capability 9.0";
    std::int64_t count = 1;
    for (const int extent : kExtent) count *= extent;
    values_.resize(count);
    for (std::int64_t i = 0; i < count; ++i) values_[i] = static_cast<std::uint16_t>(1 + i % 65521);
    ASSERT_EQ(cudaMalloc(&tensor_, count * 2), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&tile_, kRows * kColumns * 2), cudaSuccess);
    cudaMemcpy(tensor_, values_.data(), count * 2, cudaMemcpyHostToDevice);
  }

  void TearDown() override {
    cudaFree(tensor_);
    cudaFree(tile_);
  }

  BoxedTensor boxed(std::array<int, 5> box, std::array<int, 5> step) const {
    BoxedTensor tensor{.data = tensor_, .dtype = DType::fp16, .box = box, .step = step};
    std::int64_t stride = 1;
    for (int a = 0; a < 5; ++a) {
      tensor.extent[a] = kExtent[a];
      stride *= kExtent[a];
      if (a < 4) tensor.stride[a] = stride;
    }
    return tensor;
  }

  /// The element of a box at `index`, in the order of the tile's rows; -1 outside of the tensor.
  static std::int64_t element(const BoxedTensor& tensor, const Start& start, int row, int column) {
    std::int64_t offset = start.at[0] + column;
    if (offset < 0 || offset >= tensor.extent[0]) return -1;
    for (int a = 1; a < 5; ++a) {
      const int i = row % tensor.box[a];
      row /= tensor.box[a];
      const std::int64_t at = start.at[a] + static_cast<std::int64_t>(i) * tensor.step[a];
      if (at < 0 || at >= tensor.extent[a]) return -1;
      offset += at * tensor.stride[a - 1];
    }
    return offset;
  }

  static int rows_of(const BoxedTensor& tensor) {
    return tensor.box[1] * tensor.box[2] * tensor.box[3] * tensor.box[4];
  }

  void expect_load(const BoxedTensor& tensor, const Start& start, int to_row = 0) {
    const int rows = rows_of(tensor);
    const CUtensorMap map = tensor_map(tensor);
    load_kernel<<<1, 128>>>(map, start, to_row, rows * tensor.box[0] * 2, tile_);
    std::vector<std::uint16_t> found(kRows * kColumns);
    ASSERT_EQ(cudaMemcpy(found.data(), tile_, found.size() * 2, cudaMemcpyDeviceToHost), cudaSuccess);
    int wrong = 0;
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < kColumns; ++column) {
        std::uint16_t expected = kUntouched;
        if (row >= to_row && row < to_row + rows && column < tensor.box[0]) {
          const std::int64_t from = element(tensor, start, row - to_row, column);
          expected = from < 0 ? 0 : values_[from];
        }
        wrong += found[swizzled(row, column)] != expected;
      }
    }
    EXPECT_EQ(wrong, 0) << "of " << kRows * kColumns << " elements";
  }

  std::vector<std::uint16_t> values_;
  std::uint16_t* tensor_ = nullptr;
  std::uint16_t* tile_ = nullptr;
};

TEST_F(TensorMap, LoadsABoxOfRank5) { expect_load(boxed({64, 4, 3, 2, 1}, {1, 1, 1, 1, 1}), {{80, 2, 3, 1, 1}}); }

TEST_F(TensorMap, FillsTokensOutsideWithZeros) {
  expect_load(boxed({64, 4, 3, 2, 1}, {1, 1, 1, 1, 1}), {{80, 9, 8, 4, 1}});
  expect_load(boxed({64, 4, 3, 2, 1}, {1, 1, 1, 1, 1}), {{80, -2, -1, -1, 0}});
  expect_load(boxed({64, 4, 3, 2, 1}, {1, 1, 1, 1, 1}), {{80, 100, 3, 1, 0}});
}

TEST_F(TensorMap, LeavesTheRestOfNarrowRowsAlone) {
  expect_load(boxed({16, 4, 3, 2, 1}, {1, 1, 1, 1, 1}), {{80 + 64, 2, 3, 1, 1}});
  expect_load(boxed({8, 3, 3, 3, 1}, {1, 1, 1, 1, 1}), {{40, 2, 3, 1, 1}});
  expect_load(boxed({32, 7, 1, 2, 1}, {1, 1, 1, 1, 1}), {{32, 2, 3, 1, 1}});
}

TEST_F(TensorMap, LoadsEveryNthToken) {
  expect_load(boxed({64, 4, 3, 2, 1}, {1, 2, 3, 2, 1}), {{80, 1, 2, 1, 1}});
  expect_load(boxed({16, 4, 3, 2, 1}, {1, 8, 7, 5, 1}), {{80, 3, 1, 4, 1}});
}

TEST_F(TensorMap, StartsAtAnyRowOfATile) {
  for (const int row : {1, 3, 8, 13, 40}) {
    expect_load(boxed({64, 4, 3, 2, 1}, {1, 1, 1, 1, 1}), {{80, 2, 3, 1, 1}}, row);
    expect_load(boxed({24, 4, 1, 1, 1}, {1, 2, 1, 1, 1}), {{80, 2, 3, 1, 1}}, row);
  }
}

TEST_F(TensorMap, RepeatsAxesOfStride0) {
  BoxedTensor tensor = boxed({64, 4, 3, 2, 1}, {1, 1, 1, 1, 1});
  tensor.stride[1] = 0;
  tensor.stride[3] = 0;
  expect_load(tensor, {{80, 2, 3, 1, 1}});
}

TEST_F(TensorMap, ReachesHeadsThatLieFarApart) {
  // Heads before tokens: the axis of heads and head dim overlaps with the others.
  BoxedTensor tensor = boxed({64, 4, 3, 2, 1}, {1, 1, 1, 1, 1});
  tensor.extent = {2 * 11 * 9 * 80 + 80, 11, 9, 1, 1};
  tensor.stride = {80, 11 * 80, 16, 16};
  expect_load(tensor, {{2 * 11 * 9 * 80, 2, 3, 0, 0}});
}

TEST_F(TensorMap, StoresEveryNthTokenInside) {
  for (const int step : {1, 2, 5}) {
    const BoxedTensor tensor = boxed({16, 4, 3, 2, 1}, {1, step, step, 1, 1});
    const Start start{{80 + 64, 1, 2, 4, 1}};
    std::vector<std::uint16_t> tile(kRows * kColumns);
    for (int i = 0; i < kRows * kColumns; ++i) tile[i] = static_cast<std::uint16_t>(60000 - i);
    cudaMemcpy(tile_, tile.data(), tile.size() * 2, cudaMemcpyHostToDevice);
    store_kernel<<<1, 128>>>(tensor_map(tensor), start, tile_);
    std::vector<std::uint16_t> expected = values_;
    for (int row = 0; row < rows_of(tensor); ++row) {
      for (int column = 0; column < tensor.box[0]; ++column) {
        const std::int64_t to = element(tensor, start, row, column);
        if (to >= 0) expected[to] = tile[swizzled(row, column)];
      }
    }
    std::vector<std::uint16_t> found(expected.size());
    ASSERT_EQ(cudaMemcpy(found.data(), tensor_, found.size() * 2, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_TRUE(found == expected) << "step " << step;
    cudaMemcpy(tensor_, values_.data(), values_.size() * 2, cudaMemcpyHostToDevice);
  }
}

}  // namespace
}  // namespace vicinal::cuda
