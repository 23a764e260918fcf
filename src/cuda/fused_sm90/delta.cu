#include "cuda/fused_sm90/delta.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cuda/common/grid.h"
#include "cuda/common/launch.cuh"

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 8;  // that share a row
constexpr int kPiece = 8;  // elements of a lane that follow each other: 16 bytes

template <class Element, class Index>
struct DeltaParameters {
  cuda::Rows<Index> rows;
  Index tokens;
  int dim_v;
  Strided<const Element, Index> output, grad_output;
  Strided<const float, Index> grad_logsumexp;
  float* delta;  // [B, H, tokens], times delta_factor
  float delta_factor;
  Strided<const float, Index> logsumexp;
  float* weight_bias;  // [B, H, tokens]; null where it is not wanted
  float weight_shift;
};

/// Sums in the same order whether or not rows are aligned, and read 16 bytes at a time.
template <class Element, class Index, bool kWide>
__global__ void __launch_bounds__(kThreads) delta_kernel(const DeltaParameters<Element, Index> p) {
  const auto lane = static_cast<int>(threadIdx.x) % kLanes;
  const auto step = static_cast<Index>(gridDim.x) * (kThreads / kLanes);
  const Index first = static_cast<Index>(blockIdx.x) * (kThreads / kLanes) + static_cast<Index>(threadIdx.x) / kLanes;
  // All lanes of a warp stay, as they add up what they have.
  for (Index base = first - first % (32 / kLanes); base < p.rows.count; base += step) {
    const Index row = base + first % (32 / kLanes);
    const bool exists = row < p.rows.count;
    const Place<Index> at = p.rows.place(exists ? row : p.rows.count - 1);
    const Element* output = p.output.row(at);
    const Element* grad_output = p.grad_output.row(at);
    float sum = 0;
    for (int column = lane * kPiece; column < p.dim_v; column += kLanes * kPiece) {
      Pack<Element, kPiece> o{}, g{};
      if constexpr (kWide) {
        o = load<kPiece>(output + column);
        g = load<kPiece>(grad_output + column);
      } else {
        for (int i = 0; i < kPiece && column + i < p.dim_v; ++i) {
          o.values[i] = output[column + i];
          g.values[i] = grad_output[column + i];
        }
      }
#pragma unroll
      for (int i = 0; i < kPiece; ++i) sum += widened(o.values[i]) * widened(g.values[i]);
    }
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0U, sum, distance);
    if (lane != 0 || !exists) continue;
    if (p.grad_logsumexp.data != nullptr) sum -= *p.grad_logsumexp.row(at);
    const Index token = row / p.rows.heads - at.batch * p.tokens;
    const Index query = (at.batch * p.rows.heads + at.head) * p.tokens + token;
    p.delta[query] = sum * p.delta_factor;
    if (p.weight_bias == nullptr) continue;
    constexpr float kLog2E = 1.44269504088896341F;
    p.weight_bias[query] = fmaf(*p.logsumexp.row(at), -kLog2E, p.weight_shift);
  }
}

/// What is computed.
struct Results {
  float* delta;
  float* weight_bias = nullptr;
};

template <class Element, class Index, bool kWide>
void launch(const Problem& grid, const BackwardViews& t, const Results& results, void* stream) {
  const int shift = results.weight_bias == nullptr ? 0 : weight_shift(grid.dtype);
  const DeltaParameters<Element, Index> p{
      .rows = cuda::Rows<Index>(grid, grid.heads),
      .tokens = static_cast<Index>(grid.tokens()),
      .dim_v = static_cast<int>(grid.dim_v),
      .output = Strided<const Element, Index>(t.output),
      .grad_output = Strided<const Element, Index>(t.grad_output),
      .grad_logsumexp = Strided<const float, Index>(t.grad_logsumexp),
      .delta = results.delta,
      .delta_factor = results.weight_bias == nullptr ? 1.0F : -std::ldexp(1.0F, -shift),
      .logsumexp = Strided<const float, Index>(t.logsumexp),
      .weight_bias = results.weight_bias,
      .weight_shift = static_cast<float>(shift)};
  const Launcher launcher(grid, stream);
  const std::int64_t rows = grid.batch * grid.tokens() * grid.heads;
  const unsigned blocks = launcher.blocks((rows + kThreads / kLanes - 1) / (kThreads / kLanes), kThreads);
  launcher.launch("fused_sm90_backward (delta)", delta_kernel<Element, Index, kWide>, blocks, kThreads, 0, p);
}

template <class Element>
void compute(const Problem& grid, const BackwardViews& t, const Results& results, void* stream) {
  const Reach reach = Reach(grid)
                          .rows(t.output, grid.heads, grid.dim_v, true)
                          .rows(t.grad_output, grid.heads, grid.dim_v, true)
                          .rows(t.grad_logsumexp, grid.heads, 1, false)
                          .rows(t.logsumexp, grid.heads, 1, false)
                          .items(grid.batch * grid.tokens() * grid.heads);
  reach.choose([&]<class Index, bool kWide> { launch<Element, Index, kWide>(grid, t, results, stream); });
}

void compute(const Problem& grid, const BackwardViews& t, const Results& results, void* stream) {
  if (grid.dtype == DType::fp16) {
    compute<Half>(grid, t, results, stream);
  } else {
    compute<Bfloat>(grid, t, results, stream);
  }
}

}  // namespace

void compute_delta(const Problem& grid, const BackwardViews& tensors, const View& delta, void* stream) {
  compute(grid, tensors, {.delta = static_cast<float*>(delta.data)}, stream);
}

void compute_biases(const Problem& grid, const BackwardViews& tensors, const View& weight_bias,
                    const View& gradient_bias, void* stream) {
  compute(grid, tensors,
          {.delta = static_cast<float*>(gradient_bias.data), .weight_bias = static_cast<float*>(weight_bias.data)},
          stream);
}

}  // namespace vicinal::cuda::sm90
