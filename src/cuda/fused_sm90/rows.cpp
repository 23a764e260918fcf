// The rows of the fused backend on Hopper.

#include "cuda/fused_sm90/backward.h"
#include "cuda/fused_sm90/copies.h"
#include "cuda/fused_sm90/forward.h"
#include "cuda/fused_sm90/planner.h"
#include "cuda/fused_sm90/workspace_views.h"
#include "plan/registry.h"

namespace vicinal {
namespace {

std::string copies_of_any_tiling(const Problem& grid, const Tiling& /*tiling*/) {
  return cuda::sm90::explain_copies(grid);
}

}  // namespace

constinit const KernelRow kFusedSm90Forward{
    .name = "fused_sm90_forward",
    .backend = "fused",
    .operation = Operation::forward,
    .device = DeviceType::cuda,
    .supports = cuda::sm90::forward_supports,
    .tiling = cuda::sm90::forward_tiling,
    .tilings = cuda::sm90::forward_tilings,
    .accepts = cuda::sm90::forward_accepts,
    .cost = cuda::sm90::forward_cost,
    .workspace = [](const Problem&, const Tiling&) { return std::size_t{0}; },
    .copies = cuda::sm90::forward_copies,
    .order = cuda::sm90::forward_order,
    .forward = cuda::sm90::forward,
};

constinit const KernelRow kFusedSm90ForwardPairs{
    .name = "fused_sm90_forward_pairs",
    .backend = "fused",
    .operation = Operation::forward,
    .device = DeviceType::cuda,
    .supports = cuda::sm90::forward_pairs_supports,
    .tiling = cuda::sm90::forward_pairs_tiling,
    .tilings = cuda::sm90::forward_pairs_tilings,
    .accepts = cuda::sm90::forward_pairs_accepts,
    .cost = cuda::sm90::forward_pairs_cost,
    .workspace = [](const Problem&, const Tiling&) { return std::size_t{0}; },
    .copies = copies_of_any_tiling,
    .order = cuda::sm90::forward_pairs_order,
    .forward = cuda::sm90::forward_pairs,
};

constinit const KernelRow kFusedSm90Backward{
    .name = "fused_sm90_backward",
    .backend = "fused",
    .operation = Operation::backward,
    .device = DeviceType::cuda,
    .supports = cuda::sm90::backward_supports,
    .tiling = cuda::sm90::backward_tiling,
    .tilings = cuda::sm90::backward_tilings,
    .accepts = cuda::sm90::backward_accepts,
    .cost = cuda::sm90::backward_cost,
    .workspace = cuda::sm90::backward_workspace,
    .copies = copies_of_any_tiling,
    .order = cuda::sm90::backward_order,
    .backward = cuda::sm90::backward,
};

constinit const KernelRow kFusedSm90BackwardOnePass{
    .name = "fused_sm90_backward_one_pass",
    .backend = "fused",
    .operation = Operation::backward,
    .device = DeviceType::cuda,
    .deterministic = false,
    .supports = cuda::sm90::backward_one_pass_supports,
    .tiling = cuda::sm90::backward_one_pass_tiling,
    .tilings = cuda::sm90::backward_one_pass_tilings,
    .accepts = cuda::sm90::backward_one_pass_accepts,
    .cost = cuda::sm90::backward_one_pass_cost,
    .workspace = cuda::sm90::backward_one_pass_workspace,
    .copies = copies_of_any_tiling,
    .order = cuda::sm90::backward_one_pass_order,
    .backward = cuda::sm90::backward_one_pass,
};

}  // namespace vicinal
