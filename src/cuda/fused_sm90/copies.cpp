#include "cuda/fused_sm90/copies.h"

#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace vicinal::cuda::sm90 {

std::string explain_copies(const Problem& grid) {
  if (copies_of(grid).by_copy_engine) return "by the copy engine";
  const std::int64_t elements = kMostAlignment / static_cast<std::int64_t>(size_of(grid.dtype));
  for (const auto& [name, dim] : {std::pair{"dim", grid.dim}, {"dim_v", grid.dim_v}}) {
    if (dim % elements == 0) continue;
    return fmt::format("by threads: {} = {} is no multiple of {} elements ({} bytes)", name, dim, elements,
                       kMostAlignment);
  }
  // `alignment_of` says half of the most where a stride is aligned, but not one that the copy engine takes.
  const std::string_view or_strides =
      grid.alignment == kMostAlignment / 2 ? ", or a stride is negative or too long" : "";
  return fmt::format(
      "by threads: tensors begin at, or have strides of, multiples of {} bytes{}; the copy engine takes multiples of "
      "{}",
      grid.alignment, or_strides, kMostAlignment);
}

}  // namespace vicinal::cuda::sm90
