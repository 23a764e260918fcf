#include "cuda/fused_sm90/query_sums.h"

#include <cstdint>

#include "core/tiling.h"
#include "cuda/common/grid.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/tensor_map.h"

namespace vicinal::cuda::sm90 {
namespace {

constexpr int kThreads = 256;
constexpr int kPiece = 8;  // elements of a thread: 16 bytes of the gradient

/// Of the largest dilation group.
std::int64_t members_along(const Problem& grid, int axis) {
  return group_members(grid.layout[axis], grid.dilation[axis], std::int64_t{0});
}

/// Tokens that the sums have room for.
std::int64_t room_along(const Problem& grid, int axis) { return members_along(grid, axis) * grid.dilation[axis]; }

std::int64_t padded_dim(const Problem& grid) { return ceil_div(grid.dim, std::int64_t{kSumChunk}) * kSumChunk; }

/// The sums as a tensor whose axes are ordered by dilation groups.
View view_of(const Problem& grid, void* memory) {
  View view;
  view.data = memory;
  view.dtype = DType::fp32;
  std::int64_t stride = padded_dim(grid);
  for (int a = 2; a >= 0; --a) {
    view.axis_stride[a] = stride;
    stride *= room_along(grid, a);
  }
  view.head_stride = stride;
  view.batch_stride = stride * grid.heads;
  return view;
}

template <class Element, class Index>
struct RoundParameters {
  cuda::Rows<Index> rows;
  Divisor<Index> pieces;  // of a row
  Index items;
  Divisor<Index> dilation[3];
  Index members[3];  // of the largest group
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
      from.token[a] = (at.token[a] - index * p.dilation[a]) * p.members[a] + index;
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
  RoundParameters<Element, Index> p{.rows = cuda::Rows<Index>(grid, grid.heads),
                                    .pieces = Divisor<Index>(pieces),
                                    .items = static_cast<Index>(items),
                                    .dilation = {Divisor<Index>(grid.dilation[0]), Divisor<Index>(grid.dilation[1]),
                                                 Divisor<Index>(grid.dilation[2])},
                                    .members = {},
                                    .dim = static_cast<int>(grid.dim),
                                    .scale = static_cast<float>(grid.effective_scale()),
                                    .sums = Strided<const float, Index>(sums),
                                    .grad_query = Strided<Element, Index>(grad_query)};
  for (int a = 0; a < 3; ++a) p.members[a] = static_cast<Index>(members_along(grid, a));
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

std::size_t query_sums_bytes(const Problem& grid) {
  const View view = view_of(grid, nullptr);
  return static_cast<std::size_t>(grid.batch * view.batch_stride) * sizeof(float);
}

QuerySums query_sums(const Problem& grid, const TileShape& tile, void* memory) {
  const View view = view_of(grid, memory);
  QuerySums sums{.map = {}, .members = {}, .order = {}};
  BoxedTensor tensor{.data = memory, .dtype = DType::fp32};
  tensor.extent[0] = padded_dim(grid);
  tensor.box[0] = kSumChunk;
  for (int i = 0; i < 3; ++i) {
    const int a = tile.order[i];
    sums.order[i] = a;
    sums.members[a] = static_cast<int>(members_along(grid, a));
    tensor.extent[i + 1] = room_along(grid, a);
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
  const View sums = view_of(grid, const_cast<void*>(memory));
  if (grid.dtype == DType::fp16) {
    round_to<Half>(grid, sums, grad_query, stream);
  } else {
    round_to<Bfloat>(grid, sums, grad_query, stream);
  }
}

}  // namespace vicinal::cuda::sm90
