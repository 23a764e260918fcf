#pragma once

// The token grid and tensors as CUDA kernels see them, with indices of 32 bits where everything fits and of 64 where it
// does not. Host and device.

#include <cstdint>
#include <limits>

#include "core/view.h"
#include "core/window.h"
#include "cuda/common/divisor.h"
#include "cuda/common/element.h"
#include "vicinal/problem.h"

namespace vicinal::cuda {

/// One token of one head.
template <class Index>
struct Place {
  Index batch;
  Index token[3];
  Index head;
};

/// A View with its element type.
template <class Element, class Index>
struct Strided {
  Element* data;
  Index batch_stride;
  Index axis_stride[3];
  Index head_stride;

  explicit Strided(const View& view)
      : data(static_cast<Element*>(view.data)),
        batch_stride(static_cast<Index>(view.batch_stride)),
        axis_stride{static_cast<Index>(view.axis_stride[0]), static_cast<Index>(view.axis_stride[1]),
                    static_cast<Index>(view.axis_stride[2])},
        head_stride(static_cast<Index>(view.head_stride)) {}

  /// The first element of a row.
  VICINAL_HOST_DEVICE Element* row(const Place<Index>& at) const {
    return data + (at.batch * batch_stride + at.token[0] * axis_stride[0] + at.token[1] * axis_stride[1] +
                   at.token[2] * axis_stride[2] + at.head * head_stride);
  }

  /// That of an extra token.
  VICINAL_HOST_DEVICE Element* extra_row(Index batch, Index token, Index head) const {
    return data + (batch * batch_stride + token * axis_stride[2] + head * head_stride);
  }
};

/// Numbers the rows of [batch, *layout, heads], heads fastest.
template <class Index>
struct Rows {
  Divisor<Index> heads, z, y, x;
  Index count;

  Rows(const Problem& grid, std::int64_t row_heads)
      : heads(row_heads),
        z(grid.layout[2]),
        y(grid.layout[1]),
        x(grid.layout[0]),
        count(static_cast<Index>(grid.batch * grid.tokens() * row_heads)) {}

  VICINAL_HOST_DEVICE Place<Index> place(Index row) const {
    Place<Index> at;
    const Index token = row / heads;
    const Index column = token / z;
    const Index plane = column / y;
    at.head = row - token * heads;
    at.token[2] = token - column * z;
    at.token[1] = column - plane * y;
    at.batch = plane / x;
    at.token[0] = plane - at.batch * x;
    return at;
  }
};

/// A token of one axis inside its dilation group, and the windows there.
template <class Index>
struct Position {
  BasicAxisWindow<Index> axis;
  Index group;
  Index index;

  VICINAL_HOST_DEVICE BasicInterval<Index> keys() const { return axis.keys_of(index); }
  VICINAL_HOST_DEVICE BasicInterval<Index> queries() const { return axis.queries_of(index); }
};

/// One axis of the token grid.
template <class Index>
struct Axis {
  Index extent;
  Index window;
  Index stride;
  Divisor<Index> dilation;
  bool causal;

  Axis(const Problem& grid, int a)
      : extent(static_cast<Index>(grid.layout[a])),
        window(static_cast<Index>(grid.window[a])),
        stride(static_cast<Index>(grid.stride[a])),
        dilation(grid.dilation[a]),
        causal(grid.causal[a]) {}

  VICINAL_HOST_DEVICE BasicAxisWindow<Index> group_window(Index group) const {
    return {group_members(extent, dilation, group), window, stride, causal};
  }

  VICINAL_HOST_DEVICE Position<Index> position(Index token) const {
    const Index index = token / dilation;
    const Index group = token - index * dilation;
    return {group_window(group), group, index};
  }

  VICINAL_HOST_DEVICE Index token(Index group, Index index) const { return group + dilation * index; }
};

/// What each kernel needs to know about the problem.
template <class Index>
struct Grid {
  Axis<Index> axes[3];
  Rows<Index> queries;
  Rows<Index> keys;
  Divisor<Index> heads_per_key_head;
  Index dim;
  Index grid_slots;  ///< slots of a row of weights that belong to tokens of the grid; those of extra tokens follow
  Index extra;

  explicit Grid(const Problem& grid)
      : axes{Axis<Index>(grid, 0), Axis<Index>(grid, 1), Axis<Index>(grid, 2)},
        queries(grid, grid.heads),
        keys(grid, grid.heads_kv),
        heads_per_key_head(grid.heads / grid.heads_kv),
        dim(static_cast<Index>(grid.dim)),
        grid_slots(static_cast<Index>(grid.window[0] * grid.window[1] * grid.window[2])),
        extra(static_cast<Index>(grid.extra_kv)) {}

  VICINAL_HOST_DEVICE Index slots() const { return grid_slots + extra; }
};

/// Collects how far the tensors of a call reach, to choose the kind of index and of access.
class Reach {
 public:
  explicit Reach(const Problem& grid) : grid_(grid) {}

  /// Rows of `elements` on the grid for each of `heads`, accessed 16 bytes at a time where `vectors` allows.
  Reach& rows(const View& view, std::int64_t heads, std::int64_t elements, bool vectors) {
    return add(view, grid_.layout, heads, elements, vectors);
  }
  /// The same for extra tokens.
  Reach& extra_rows(const View& view, std::int64_t heads, std::int64_t elements, bool vectors) {
    return add(view, {1, 1, grid_.extra_kv}, heads, elements, vectors);
  }
  /// As many work items as this.
  Reach& items(std::int64_t count) {
    fits_32_bits_ = fits_32_bits_ && count < kMost;
    return *this;
  }

  [[nodiscard]] bool fits_32_bits() const { return fits_32_bits_; }
  [[nodiscard]] bool aligned() const { return aligned_; }

  /// Calls launch<Index, kWide>(), for kernels that access 16 bytes at a time with 32-bit indices alone.
  template <class Launch>
  void choose(const Launch& launch) const {
    if (!fits_32_bits_) {
      launch.template operator()<std::int64_t, false>();
    } else if (aligned_) {
      launch.template operator()<std::int32_t, true>();
    } else {
      launch.template operator()<std::int32_t, false>();
    }
  }

 private:
  // Loops over items step beyond the last one before they end, by less than the rest of the range.
  static constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() - (std::int64_t{1} << 26);

  Reach& add(const View& view, const PerAxis<std::int64_t>& extents, std::int64_t heads, std::int64_t elements,
             bool vectors) {
    if (!view) return *this;
    const auto element = static_cast<std::int64_t>(size_of(view.dtype));
    aligned_ = aligned_ && (!vectors || (reinterpret_cast<std::uintptr_t>(view.data) % kAccessBytes == 0 &&
                                         elements * element % kAccessBytes == 0));
    auto reach = static_cast<double>(elements);  // as a double: sums of legal strides may exceed 64 bits
    const auto dimension = [&](std::int64_t stride, std::int64_t extent) {
      aligned_ = aligned_ && (!vectors || stride * element % kAccessBytes == 0);
      reach += static_cast<double>(stride < 0 ? -stride : stride) * static_cast<double>(extent);
    };
    dimension(view.batch_stride, grid_.batch);
    for (int a = 0; a < 3; ++a) dimension(view.axis_stride[a], extents[a]);
    dimension(view.head_stride, heads);
    fits_32_bits_ = fits_32_bits_ && reach < static_cast<double>(kMost);
    return *this;
  }

  const Problem& grid_;
  bool fits_32_bits_ = true;
  bool aligned_ = true;
};

}  // namespace vicinal::cuda
