#pragma once

// How tiles get from global to shared memory, as far as a problem says. A pass looks at its tensors (parameters.h), so
// that it is right whatever the problem says of them.

#include <cstdint>
#include <string>

#include "core/alignment.h"
#include "vicinal/problem.h"
#include "vicinal/tensor.h"

namespace vicinal::cuda::sm90 {

struct Copies {
  std::int64_t alignment;  ///< bytes, at multiples of which all vectors begin and end: a power of two up to 16
  bool by_copy_engine;     ///< which wants 16; elsewhere threads copy
};

inline Copies copies_of(const Problem& grid) {
  Alignment alignment;
  alignment.add(grid.alignment, 1);
  alignment.add(grid.dim, size_of(grid.dtype));
  alignment.add(grid.dim_v, size_of(grid.dtype));
  return {.alignment = alignment.bytes(), .by_copy_engine = alignment.bytes() == kMostAlignment};
}

/// The same in words, with the reason: "by the copy engine", "by threads: dim = 57 is no multiple of ...".
std::string explain_copies(const Problem& grid);

}  // namespace vicinal::cuda::sm90
