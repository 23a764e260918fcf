#include "cpu/fused/kernels.h"
#include "cpu/fused/tile.h"

namespace vicinal::cpu {

std::byte* thread_scratch(std::size_t bytes) {
  static thread_local Scratch scratch;
  return scratch.reserve(bytes);
}

}  // namespace vicinal::cpu
