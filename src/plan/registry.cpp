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
  };
  return rows;
}

}  // namespace vicinal
