#include "plan/registry.h"

#include <array>

namespace vicinal {

std::span<const KernelRow> registry() {
  static const std::array rows{
      kFusedCpuForward,
      kFusedCpuBackward,
      kNaiveCpuForward,
      kNaiveCpuBackward,
      kNaiveCpuPointwiseNeighborhood,
      kNaiveCpuNeighborhoodNeighborhood,
      kNaiveCpuInverseNeighborhood,
      kNaiveCpuBiasGradient,
      kReferenceForward,
      kReferenceBackward,
#ifdef VICINAL_HAS_CUDA
      kFusedSm90Forward,
      kFusedSm90ForwardPairs,
      kFusedSm90Backward,
      kFusedSm90BackwardOnePass,
      kNaiveCudaForward,
      kNaiveCudaBackward,
      kTiledCudaPointwiseNeighborhood,
      kNaiveCudaPointwiseNeighborhood,
      kNaiveCudaNeighborhoodNeighborhood,
      kNaiveCudaInverseNeighborhood,
      kNaiveCudaBiasGradient,
#endif
  };
  return rows;
}

}  // namespace vicinal
