#include "cuda/fused_sm90/workspace_views.h"

#include "core/tiling.h"
#include "cuda/fused_sm90/extra_splits.h"

namespace vicinal::cuda::sm90 {
namespace {

/// float32 [B, H, X, Y, Z, elements], dense.
View heads_first(const Problem& grid, void* memory, std::int64_t elements) {
  View view;
  view.data = memory;
  view.dtype = DType::fp32;
  std::int64_t stride = elements;
  for (int a = 2; a >= 0; --a) {
    view.axis_stride[a] = stride;
    stride *= grid.layout[a];
  }
  view.head_stride = stride;
  view.batch_stride = stride * grid.heads;
  return view;
}

}  // namespace

View delta_view(const Problem& grid, void* memory) { return heads_first(grid, memory, 1); }

std::size_t delta_bytes(const Problem& grid) {
  constexpr std::size_t kAlignment = 64;
  const auto elements = static_cast<std::size_t>(grid.batch * grid.heads * grid.tokens());
  return (elements * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

std::int64_t summed_dim(const Problem& grid) {
  constexpr std::int64_t kGroup = 8;
  return ceil_div(grid.dim, kGroup) * kGroup;
}

View query_sums_view(const Problem& grid, void* memory) { return heads_first(grid, memory, summed_dim(grid)); }

std::size_t query_sums_bytes(const Problem& grid) {
  return static_cast<std::size_t>(grid.batch * grid.heads * grid.tokens() * summed_dim(grid)) * sizeof(float);
}

std::size_t backward_workspace(const Problem& grid, const Tiling& /*tiling*/) {
  return delta_bytes(grid) + extra_gradients_bytes(grid);
}

std::size_t backward_one_pass_workspace(const Problem& grid, const Tiling& /*tiling*/) {
  return 2 * delta_bytes(grid) + query_sums_bytes(grid);
}

}  // namespace vicinal::cuda::sm90
