// The registry rows of the fused CPU kernels.

#include "cpu/fused/kernels.h"
#include "cpu/fused/schedule.h"
#include "plan/registry.h"

namespace vicinal {
namespace {

Status supports(const Problem& /*grid*/) { return {}; }

template <Operation kOperation>
Tiling tiling(const Problem& grid) {
  return cpu::choose_tiling(grid, kOperation);
}

Status accepts(const Problem& /*grid*/, const Tiling& tiling) { return cpu::accepts_tiling(tiling); }

template <Operation kOperation>
Cost cost(const Problem& grid, const Tiling& tiling) {
  return cpu::fused_cost(grid, tiling, kOperation);
}

std::size_t no_workspace(const Problem& /*grid*/, const Tiling& /*tiling*/) { return 0; }

}  // namespace

constinit const KernelRow kFusedCpuForward{
    .name = "fused_cpu_forward",
    .backend = "fused",
    .operation = Operation::forward,
    .device = DeviceType::cpu,
    .supports = supports,
    .tiling = tiling<Operation::forward>,
    .accepts = accepts,
    .cost = cost<Operation::forward>,
    .workspace = no_workspace,
    .forward = cpu::run_fused_forward,
};

constinit const KernelRow kFusedCpuBackward{
    .name = "fused_cpu_backward",
    .backend = "fused",
    .operation = Operation::backward,
    .device = DeviceType::cpu,
    .supports = supports,
    .tiling = tiling<Operation::backward>,
    .accepts = accepts,
    .cost = cost<Operation::backward>,
    .workspace = cpu::fused_backward_workspace,
    .backward = cpu::run_fused_backward,
};

}  // namespace vicinal
