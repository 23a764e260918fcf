#include "cuda/fused_sm90/query_sums.h"

#include <cstdint>

#include "core/tiling.h"
#include "cuda/common/grid.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/tensor_map.h"
#include "cuda/fused_sm90/workspace_views.h"

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kThreads = 256;
constexpr int kPiece = 8;  // elements of a thread: 16 bytes of the gradient

template <class Index>
PackedGroups<Index> groups_along(const Problem& grid, int axis) {
  return {static_cast<Index>(grid.layout[axis]), static_cast<Index>(grid.dilation[axis])};
}

template <class Element, class Index>
struct RoundParameters {
  cuda::Rows<Index> rows;
  Divisor<Index> pieces;  // of a row
  Index items;
  Divisor<Index> dilation[3];
  PackedGroups<Index> groups[3];
  int dim;
  float scale;
  Strided<const float, Index> sums;
  Strided<Element, Index> grad_query;
};

template <class Element, class Index, bool kWide>
__global__ void __launch_bounds__(kThreads) round_kernel(const RoundParameters<Element, Index> p) {
  const auto step = static_cast<Index>(gridDim.x) * kThreads;
  for (Index i = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x); i < p.items; i += step) {
    const Index row = i / p.pieces;
    const auto piece = static_cast<int>(i - row * p.pieces);
    const Place<Index> at = p.rows.place(row);
    Place<Index> from = at;
    for (int a = 0; a < 3; ++a) {
      const Index index = at.token[a] / p.dilation[a];
      from.token[a] = p.groups[a].begin(at.token[a] - index * p.dilation[a]) + index;
    }
    // Of 8 elements the even ones come first.
    const auto* sums = reinterpret_cast<const float4*>(p.sums.row(from) + piece * kPiece);
    const float4 even = sums[0];
    const float4 odd = sums[1];
    const float in_order[kPiece] = {even.x, odd.x, even.y, odd.y, even.z, odd.z, even.w, odd.w};
    Pack<Element, kPiece> result;
#pragma unroll
    for (int e = 0; e < kPiece; ++e) result.values[e] = narrowed<Element>(in_order[e] * p.scale);
    Element* to = p.grad_query.row(at) + piece * kPiece;
    if constexpr (kWide) {
      store(to, result);
    } else {
      for (int e = 0; e < kPiece && piece * kPiece + e < p.dim; ++e) to[e] = result.values[e];
    }
  }
}

template <class Element, class Index, bool kWide>
void launch(const Problem& grid, const View& sums, const View& grad_query, void* stream) {
  const std::int64_t pieces = ceil_div(grid.dim, std::int64_t{kPiece});
  const std::int64_t items = grid.batch * grid.tokens() * grid.heads * pieces;
  const RoundParameters<Element, Index> p{
      .rows = cuda::Rows<Index>(grid, grid.heads),
      .pieces = Divisor<Index>(pieces),
      .items = static_cast<Index>(items),
      .dilation = {Divisor<Index>(grid.dilation[0]), Divisor<Index>(grid.dilation[1]),
                   Divisor<Index>(grid.dilation[2])},
      .groups = {groups_along<Index>(grid, 0), groups_along<Index>(grid, 1), groups_along<Index>(grid, 2)},
      .dim = static_cast<int>(grid.dim),
      .scale = static_cast<float>(grid.effective_scale()),
      .sums = Strided<const float, Index>(sums),
      .grad_query = Strided<Element, Index>(grad_query)};
  const Launcher launcher(grid, stream);
  launcher.launch("fused_sm90_backward_one_pass (dQ)", round_kernel<Element, Index, kWide>,
                  launcher.blocks(ceil_div(items, std::int64_t{kThreads}), kThreads), kThreads, 0, p);
}

template <class Element>
void round_to(const Problem& grid, const View& sums, const View& grad_query, void* stream) {
  const auto bytes = static_cast<std::int64_t>(query_sums_bytes(grid));
  const Reach reach =
      Reach(grid).rows(grad_query, grid.heads, grid.dim, true).items(bytes / static_cast<std::int64_t>(sizeof(float)));
  reach.choose([&]<class Index, bool kWide> { launch<Element, Index, kWide>(grid, sums, grad_query, stream); });
}

}  // namespace

QuerySums query_sums(const Problem& grid, const TileShape& tile, void* memory) {
  const View view = query_sums_view(grid, memory);
  QuerySums sums{.map = {}, .groups = {}, .order = {}};
  BoxedTensor tensor{.data = memory, .dtype = DType::fp32};
  tensor.extent[0] = summed_dim(grid);
  tensor.box[0] = kSumChunk;
  for (int i = 0; i < 3; ++i) {
    const int a = tile.order[i];
    sums.order[i] = a;
    sums.groups[a] = groups_along<int>(grid, a);
    tensor.extent[i + 1] = grid.layout[a];
    tensor.stride[i] = view.axis_stride[a];
    tensor.box[i + 1] = tile.extent[a];
  }
  tensor.extent[4] = grid.batch * grid.heads;
  tensor.stride[3] = view.head_stride;
  tensor.box[4] = 1;
  sums.map = tensor_map(tensor);
  return sums;
}

void clear_query_sums(const Problem& grid, void* memory, void* stream) {
  const Launcher launcher(grid, stream);
  launcher.clear("fused_sm90_backward_one_pass (sums)", memory, query_sums_bytes(grid));
}

void round_query_sums(const Problem& grid, const void* memory, const View& grad_query, void* stream) {
  const View sums = query_sums_view(grid, const_cast<void*>(memory));
  if (grid.dtype == DType::fp16) {
    round_to<Half>(grid, sums, grad_query, stream);
  } else {
    round_to<Bfloat>(grid, sums, grad_query, stream);
  }
}

}  // namespace vicinal::cuda::sm90
