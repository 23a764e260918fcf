#pragma once

// Every kernel of the library is one row here. Planner, CLI, tests and benchmarks walk the rows, so a kernel is
// planned, checked and measured the moment it is registered, and gone when its row is deleted.

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/view.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal {

struct KernelRow {
  std::string_view name;     ///< unique, such as "fused_cpu_forward"
  std::string_view backend;  ///< what users ask for: "reference", "fused", "naive"
  Operation operation;
  DeviceType device;
  bool deterministic = true;  ///< the same bits in every run, on any number of multiprocessors or threads

  /// Why this kernel cannot do a (valid, rank 3) problem; success where it can.
  Status (*supports)(const Problem& grid);
  /// The tile shapes it would use, the best by its own cost model.
  Tiling (*tiling)(const Problem& grid);
  /// The `count` tile shapes that its cost model likes best, the best first; all where there are fewer. Not set where
  /// there is no model.
  std::vector<Tiling> (*tilings)(const Problem& grid, std::size_t count) = nullptr;
  /// Whether it can run with tile shapes that the caller forces.
  Status (*accepts)(const Problem& grid, const Tiling& tiling);
  Cost (*cost)(const Problem& grid, const Tiling& tiling);
  std::size_t (*workspace)(const Problem& grid, const Tiling& tiling);
  /// How it would copy tiles, and why no other way, for `Plan::explain`. Not set where there is only one way.
  std::string (*copies)(const Problem& grid, const Tiling& tiling) = nullptr;
  /// Who does the tiles of a work item, and which items follow each other, likewise. Not set where tiles say it.
  std::string (*order)(const Problem& grid, const Tiling& tiling) = nullptr;

  /// Exactly one is set, by `operation`. Called with a rank-3 problem, checked tensors and, but for bias_gradient, at
  /// least one batch entry.
  template <class Views>
  using Launch = void (*)(const Problem& grid, const Tiling& tiling, const Views& tensors, const Execution& execution);
  Launch<ForwardViews> forward = nullptr;
  Launch<BackwardViews> backward = nullptr;
  Launch<PointwiseNeighborhoodViews> pointwise_neighborhood = nullptr;
  Launch<NeighborhoodNeighborhoodViews> neighborhood_neighborhood = nullptr;
  Launch<InverseNeighborhoodViews> inverse_neighborhood = nullptr;
  Launch<BiasGradientViews> bias_gradient = nullptr;
};

/// All kernels of this build, in order of preference where costs tie.
std::span<const std::reference_wrapper<const KernelRow>> registry();

/// Why a row cannot be used for a (valid, rank 3) problem; success where it can.
Status usable(const KernelRow& row, const Problem& grid, const PlanOptions& options);

// The rows, each defined beside its kernel.
extern const KernelRow kReferenceForward;
extern const KernelRow kReferenceBackward;
extern const KernelRow kFusedCpuForward;
extern const KernelRow kFusedCpuBackward;
extern const KernelRow kNaiveCpuForward;
extern const KernelRow kNaiveCpuBackward;
extern const KernelRow kNaiveCpuPointwiseNeighborhood;
extern const KernelRow kNaiveCpuNeighborhoodNeighborhood;
extern const KernelRow kNaiveCpuInverseNeighborhood;
extern const KernelRow kNaiveCpuBiasGradient;
// In builds with CUDA.
extern const KernelRow kFusedSm90Forward;
extern const KernelRow kFusedSm90ForwardPairs;
extern const KernelRow kFusedSm90Backward;
extern const KernelRow kFusedSm90BackwardOnePass;
extern const KernelRow kNaiveCudaForward;
extern const KernelRow kNaiveCudaBackward;
extern const KernelRow kTiledCudaPointwiseNeighborhood;
extern const KernelRow kNaiveCudaPointwiseNeighborhood;
extern const KernelRow kNaiveCudaNeighborhoodNeighborhood;
extern const KernelRow kNaiveCudaInverseNeighborhood;
extern const KernelRow kNaiveCudaBiasGradient;

}  // namespace vicinal
