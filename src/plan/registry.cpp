#include "plan/registry.h"

#include <array>
#include <functional>

namespace vicinal {

std::span<const std::reference_wrapper<const KernelRow>> registry() {
  static constexpr std::array rows{
      std::cref(kFusedCpuForward),
      std::cref(kFusedCpuBackward),
      std::cref(kNaiveCpuForward),
      std::cref(kNaiveCpuBackward),
      std::cref(kNaiveCpuPointwiseNeighborhood),
      std::cref(kNaiveCpuNeighborhoodNeighborhood),
      std::cref(kNaiveCpuInverseNeighborhood),
      std::cref(kNaiveCpuBiasGradient),
      std::cref(kReferenceForward),
      std::cref(kReferenceBackward),
#ifdef VICINAL_HAS_CUDA
      std::cref(kFusedSm90Forward),
      std::cref(kFusedSm90ForwardPairs),
      std::cref(kFusedSm90Backward),
      std::cref(kFusedSm90BackwardOnePass),
      std::cref(kNaiveCudaForward),
      std::cref(kNaiveCudaBackward),
      std::cref(kTiledCudaPointwiseNeighborhood),
      std::cref(kNaiveCudaPointwiseNeighborhood),
      std::cref(kNaiveCudaNeighborhoodNeighborhood),
      std::cref(kNaiveCudaInverseNeighborhood),
      std::cref(kNaiveCudaBiasGradient),
#endif
  };
  return rows;
}

}  // namespace vicinal
