#include "cuda/fused_sm90/extra_gradients.h"

#include <cstdint>

#include "core/tiling.h"
#include "cuda/common/grid.h"
#include "cuda/common/launch.cuh"
#include "cuda/fused_sm90/extra_splits.h"

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;

template <class Element>
struct ExtraParameters {
  using Index = std::int64_t;
  cuda::Rows<Index> rows;  // of the queries that share a key head, heads fastest
  Index heads_kv, extra, chunks, splits, rows_of_split;
  int dim, dim_v;
  float scale;
  Strided<const Element, Index> query, grad_output, extra_key, extra_value;
  Strided<const float, Index> logsumexp, delta;
  Strided<Element, Index> grad_extra_key, grad_extra_value;
  float* partial;  // [splits, B, N, G, dim + dim_v]
  Index results;   // B N G (dim + dim_v)
};

__device__ float sum_of_warp(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0U, x, distance);
  return x;
}

/// Element i of a lane is number lane + 32 i of the row; those beyond its end are 0.
template <int kPerLane, class Element>
__device__ void load_row(float (&to)[kPerLane], const Element* row, int dim, int lane) {
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) to[i] = lane + 32 * i < dim ? widened(row[lane + 32 * i]) : 0.0F;
}

/// A block has some extra tokens of one key head and one split of the queries, of which its warps take turns. Without
/// tensor cores: extra tokens are few beside the windows of all queries.
template <class Element, int kPerLane>
__global__ void __launch_bounds__(kThreads) extra_kernel(const ExtraParameters<Element> p) {
  using Index = std::int64_t;
  constexpr int kTokens = tokens_of_block(kPerLane);
  constexpr float kLog2E = 1.44269504088896341F;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Index block = blockIdx.x;
  const Index split = block % p.splits;
  block /= p.splits;
  const Index first_token = block % p.chunks * kTokens;
  block /= p.chunks;
  const Index head = block % p.heads_kv;
  const Index batch = block / p.heads_kv;

  float key[kTokens][kPerLane], value[kTokens][kPerLane];
  float grad_key[kTokens][kPerLane] = {}, grad_value[kTokens][kPerLane] = {};
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    const Index token = first_token + n;
    const bool exists = token < p.extra;
    load_row(key[n], p.extra_key.extra_row(batch, exists ? token : 0, head), exists ? p.dim : 0, lane);
    load_row(value[n], p.extra_value.extra_row(batch, exists ? token : 0, head), exists ? p.dim_v : 0, lane);
  }

  const Index begin = split * p.rows_of_split;
  const Index end = begin + p.rows_of_split < p.rows.count ? begin + p.rows_of_split : p.rows.count;
  for (Index row = begin + warp; row < end; row += kWarps) {
    Place<Index> at = p.rows.place(row);
    at.head += head * p.rows.heads;
    at.batch = batch;
    float query[kPerLane], grad_output[kPerLane];
    load_row(query, p.query.row(at), p.dim, lane);
    load_row(grad_output, p.grad_output.row(at), p.dim_v, lane);
    const float logsumexp = *p.logsumexp.row(at);
    const float delta = *p.delta.row(at);
#pragma unroll
    for (int n = 0; n < kTokens; ++n) {
      float score = 0;
      float grad_weight = 0;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        score += query[i] * key[n][i];
        grad_weight += grad_output[i] * value[n][i];
      }
      const float weight = exp2f((sum_of_warp(score) * p.scale - logsumexp) * kLog2E);
      const float grad_score = weight * (sum_of_warp(grad_weight) - delta);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        grad_key[n][i] += grad_score * query[i];
        grad_value[n][i] += weight * grad_output[i];
      }
    }
  }

  __shared__ float sums[kWarps][2 * kPerLane * 32];  // of one token: its key, then its value
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      sums[warp][lane + 32 * i] = grad_key[n][i];
      sums[warp][lane + 32 * (kPerLane + i)] = grad_value[n][i];
    }
    __syncthreads();
    if (first_token + n >= p.extra) continue;
    float* to =
        p.partial + split * p.results + ((batch * p.extra + first_token + n) * p.heads_kv + head) * (p.dim + p.dim_v);
    for (int i = static_cast<int>(threadIdx.x); i < p.dim + p.dim_v; i += kThreads) {
      const int from = i < p.dim ? i : 32 * kPerLane + i - p.dim;
      float sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += sums[w][from];
      to[i] = sum;
    }
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads) sum_splits_kernel(const ExtraParameters<Element> p) {
  using Index = std::int64_t;
  const Index step = static_cast<Index>(gridDim.x) * kThreads;
  for (Index result = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x; result < p.results; result += step) {
    float sum = 0;
    for (Index split = 0; split < p.splits; ++split) sum += p.partial[split * p.results + result];
    const Index row = result / (p.dim + p.dim_v);
    const auto i = static_cast<int>(result - row * (p.dim + p.dim_v));
    const Index head = row % p.heads_kv;
    const Index token = row / p.heads_kv % p.extra;
    const Index batch = row / p.heads_kv / p.extra;
    if (i < p.dim) {
      p.grad_extra_key.extra_row(batch, token, head)[i] = narrowed<Element>(sum * p.scale);
    } else {
      p.grad_extra_value.extra_row(batch, token, head)[i - p.dim] = narrowed<Element>(sum);
    }
  }
}

template <class Element>
void compute(const Problem& grid, const BackwardViews& t, const View& delta, void* workspace, void* stream) {
  using Index = std::int64_t;
  Problem shared = grid;  // the queries of one batch entry that share a key head
  shared.batch = 1;
  const std::int64_t heads = grid.heads / grid.heads_kv;
  const std::int64_t splits = splits_of(grid);
  const ExtraParameters<Element> p{
      .rows = cuda::Rows<Index>(shared, heads),
      .heads_kv = grid.heads_kv,
      .extra = grid.extra_kv,
      .chunks = chunks_of(grid),
      .splits = splits,
      .rows_of_split = ceil_div(grid.tokens() * heads, splits),
      .dim = static_cast<int>(grid.dim),
      .dim_v = static_cast<int>(grid.dim_v),
      .scale = static_cast<float>(grid.effective_scale()),
      .query = Strided<const Element, Index>(t.query),
      .grad_output = Strided<const Element, Index>(t.grad_output),
      .extra_key = Strided<const Element, Index>(t.extra_key),
      .extra_value = Strided<const Element, Index>(t.extra_value),
      .logsumexp = Strided<const float, Index>(t.logsumexp),
      .delta = Strided<const float, Index>(delta),
      .grad_extra_key = Strided<Element, Index>(t.grad_extra_key),
      .grad_extra_value = Strided<Element, Index>(t.grad_extra_value),
      .partial = static_cast<float*>(workspace),
      .results = extra_results(grid),
  };
  const Launcher launcher(grid, stream);
  const auto blocks = static_cast<unsigned>(grid.batch * grid.heads_kv * p.chunks * splits);
  const auto launch = [&](auto kernel) {
    launcher.launch("fused_sm90_backward (extra tokens)", kernel, blocks, kThreads, 0, p);
  };
  switch (per_lane_of(grid)) {
    case 1: launch(extra_kernel<Element, 1>); break;
    case 2: launch(extra_kernel<Element, 2>); break;
    case 4: launch(extra_kernel<Element, 4>); break;
    default: launch(extra_kernel<Element, 8>);
  }
  launcher.launch("fused_sm90_backward (splits of extra tokens)", sum_splits_kernel<Element>,
                  launcher.blocks(ceil_div(p.results, std::int64_t{kThreads}), kThreads), kThreads, 0, p);
}

}  // namespace

void compute_extra_gradients(const Problem& grid, const BackwardViews& tensors, const View& delta, void* workspace,
                             void* stream) {
  if (grid.dtype == DType::fp16) {
    compute<Half>(grid, tensors, delta, workspace, stream);
  } else {
    compute<Bfloat>(grid, tensors, delta, workspace, stream);
  }
}

}  // namespace vicinal::cuda::sm90
