// The rows of the naive backend on CUDA: the paper's baseline, for every problem.

#include <string_view>

#include "cuda/naive/attention.h"
#include "cuda/naive/cost.h"
#include "cuda/naive/dispatch.h"
#include "cuda/naive/operators.h"
#include "cuda/naive/tiled.h"
#include "plan/cost.h"
#include "plan/registry.h"

namespace vicinal::cuda::naive {

class DeviceExecutor;  // of execute.cuh, which .cu files compile the launches with

const Operators& device_operators(DType dtype) { return operators_of<DeviceExecutor>(dtype); }

namespace {

Status supports(const Problem&) { return {}; }

Tiling tiling(const Problem&) { return {}; }

Status accepts(const Problem&, const Tiling& forced) {
  if (forced == Tiling{}) return {};
  return Status::refuse("works on one value at a time; allowed: every extent of the tiling 1");
}

std::size_t no_workspace(const Problem&, const Tiling&) { return 0; }

template <Operation kOperation, double (*kSeconds)(const Problem&)>
Cost cost(const Problem& grid, const Tiling&) {
  const double work = multiply_adds(grid, kOperation, needed_pairs(grid));
  return {work, work, compulsory_bytes(grid, kOperation), kSeconds(grid)};
}

Cost tiled_cost(const Problem& grid, const Tiling& tiles) {
  Cost result = cost<Operation::pointwise_neighborhood, pointwise_seconds>(grid, tiles);
  result.seconds = tiled_pointwise_seconds(grid, tiles);
  return result;
}

std::size_t workspace_of_forward(const Problem& grid, const Tiling&) { return forward_workspace(grid); }
std::size_t workspace_of_backward(const Problem& grid, const Tiling&) { return backward_workspace(grid); }

void launch_forward(const Problem& grid, const Tiling&, const ForwardViews& tensors, const Execution& execution) {
  forward(device_operators(grid.dtype), grid, tensors, execution);
}

void launch_backward(const Problem& grid, const Tiling&, const BackwardViews& tensors, const Execution& execution) {
  backward(device_operators(grid.dtype), grid, tensors, execution);
}

void launch_tiled(const Problem& grid, const Tiling& tiles, const PointwiseNeighborhoodViews& tensors,
                  const Execution& execution) {
  device_operators(grid.dtype).tiled_pointwise_neighborhood(grid, tiles, tensors, execution.stream);
}

template <auto kOperator, class Views>
void launch(const Problem& grid, const Tiling&, const Views& tensors, const Execution& execution) {
  (device_operators(grid.dtype).*kOperator)(grid, tensors, execution.stream);
}

}  // namespace
}  // namespace vicinal::cuda::naive

namespace vicinal {
namespace {

using namespace cuda::naive;

/// What the rows have in common.
constexpr KernelRow row(std::string_view name, Operation operation, decltype(KernelRow::cost) cost_of) {
  return {.name = name,
          .backend = "naive",
          .operation = operation,
          .device = DeviceType::cuda,
          .supports = supports,
          .tiling = tiling,
          .accepts = accepts,
          .cost = cost_of,
          .workspace = no_workspace};
}

constexpr KernelRow forward_row() {
  KernelRow result = row("naive_cuda_forward", Operation::forward, cost<Operation::forward, forward_seconds>);
  result.workspace = workspace_of_forward;
  result.forward = launch_forward;
  return result;
}

constexpr KernelRow backward_row() {
  KernelRow result = row("naive_cuda_backward", Operation::backward, cost<Operation::backward, backward_seconds>);
  result.workspace = workspace_of_backward;
  result.backward = launch_backward;
  return result;
}

constexpr KernelRow pointwise_row() {
  constexpr auto kOperation = Operation::pointwise_neighborhood;
  KernelRow result = row("naive_cuda_pointwise_neighborhood", kOperation, cost<kOperation, pointwise_seconds>);
  result.pointwise_neighborhood = launch<&Operators::pointwise_neighborhood, PointwiseNeighborhoodViews>;
  return result;
}

constexpr KernelRow tiled_pointwise_row() {
  KernelRow result = row("tiled_cuda_pointwise_neighborhood", Operation::pointwise_neighborhood, tiled_cost);
  result.supports = tiled_supports;
  result.tiling = tiled_tiling;
  result.accepts = tiled_accepts;
  result.pointwise_neighborhood = launch_tiled;
  return result;
}

constexpr KernelRow neighborhood_row() {
  constexpr auto kOperation = Operation::neighborhood_neighborhood;
  KernelRow result = row("naive_cuda_neighborhood_neighborhood", kOperation, cost<kOperation, neighborhood_seconds>);
  result.neighborhood_neighborhood = launch<&Operators::neighborhood_neighborhood, NeighborhoodNeighborhoodViews>;
  return result;
}

constexpr KernelRow inverse_row() {
  constexpr auto kOperation = Operation::inverse_neighborhood;
  KernelRow result = row("naive_cuda_inverse_neighborhood", kOperation, cost<kOperation, inverse_seconds>);
  result.inverse_neighborhood = launch<&Operators::inverse_neighborhood, InverseNeighborhoodViews>;
  return result;
}

constexpr KernelRow bias_gradient_row() {
  constexpr auto kOperation = Operation::bias_gradient;
  KernelRow result = row("naive_cuda_bias_gradient", kOperation, cost<kOperation, bias_gradient_seconds>);
  result.bias_gradient = launch<&Operators::bias_gradient, BiasGradientViews>;
  return result;
}

}  // namespace

constinit const KernelRow kNaiveCudaForward = forward_row();
constinit const KernelRow kNaiveCudaBackward = backward_row();
constinit const KernelRow kNaiveCudaPointwiseNeighborhood = pointwise_row();
constinit const KernelRow kTiledCudaPointwiseNeighborhood = tiled_pointwise_row();
constinit const KernelRow kNaiveCudaNeighborhoodNeighborhood = neighborhood_row();
constinit const KernelRow kNaiveCudaInverseNeighborhood = inverse_row();
constinit const KernelRow kNaiveCudaBiasGradient = bias_gradient_row();

}  // namespace vicinal
