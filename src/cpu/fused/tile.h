#pragma once

// The vocabulary of the fused CPU kernels, independent of the SIMD target.
//
// A query tile is up to 16 queries, and everything about it is stored with the queries in the lanes: scores are
// [keys][16], the query is [dim][16], the output accumulates as [dim_v][16]. Both matrix products then are rank-1
// updates "broadcast a scalar of key or value, multiply-add a vector of queries": keys and values are used as they lie
// in memory, row by row, whatever the head dim; maxima, sums and masks are vertical, with no shuffle anywhere.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include "core/tiling.h"
#include "core/view.h"

namespace vicinal::cpu {

/// Queries of a query tile: the lanes of every score row.
inline constexpr std::int64_t kLanes = 16;

/// Keys whose scores are in flight at once, so that scores, their keys and their values share the first-level cache.
inline constexpr std::int64_t kChunk = 64;

/// Bytes; rows of scratch start on these boundaries.
inline constexpr std::size_t kAlignment = 64;

/// Elements of a scratch row that holds `count` elements and is read and written in whole groups of 16.
constexpr std::int64_t padded(std::int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

/// One head of one batch entry of a tensor, restricted to one dilation phase: addressed by positions in the phase.
template <class Element>
struct PhaseView {
  Element* base;
  std::array<std::int64_t, 3> stride;  // elements per position

  Element* at(std::int64_t x, std::int64_t y, std::int64_t z) const {
    return base + x * stride[0] + y * stride[1] + z * stride[2];
  }
};

template <class Element>
PhaseView<Element> phase_view(const View& tensor, std::int64_t batch, std::int64_t head, const Problem& grid,
                              const std::array<std::int64_t, 3>& groups) {
  PhaseView<Element> view{
      static_cast<Element*>(tensor.data) + tensor.offset(batch, groups[0], groups[1], groups[2], head),
      tensor.axis_stride};
  for (int a = 0; a < 3; ++a) view.stride[a] *= grid.dilation[a];
  return view;
}

/// The extra tokens of one batch entry and key/value head, as a run along the last axis.
template <class Element>
PhaseView<Element> extra_view(const View& tensor, std::int64_t batch, std::int64_t head) {
  return {static_cast<Element*>(tensor.data) + tensor.offset(batch, 0, 0, 0, head), tensor.axis_stride};
}

/// Calls visit(x, y, z, row) for every position of a box, row counting from 0 with the last axis fastest.
template <class Visit>
void for_each_position(const Box& box, Visit visit) {
  std::int64_t row = 0;
  for (std::int64_t x = box.axes[0].begin; x < box.axes[0].end; ++x)
    for (std::int64_t y = box.axes[1].begin; y < box.axes[1].end; ++y)
      for (std::int64_t z = box.axes[2].begin; z < box.axes[2].end; ++z) visit(x, y, z, row++);
}

constexpr Interval intersect(Interval a, Interval b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

constexpr Box intersect(const Box& a, const Box& b) {
  return {{intersect(a.axes[0], b.axes[0]), intersect(a.axes[1], b.axes[1]), intersect(a.axes[2], b.axes[2])}};
}

/// Calls visit(tile) for every tile of `shape` that covers `box`, laid from its corner; the last ones are cut at its
/// end.
template <class Visit>
void for_each_tile(const Box& box, const PerAxis<std::int64_t>& shape, Visit visit) {
  const auto cut = [&](int a, std::int64_t begin) {
    return Interval{begin, std::min(begin + shape[a], box.axes[a].end)};
  };
  for (std::int64_t x = box.axes[0].begin; x < box.axes[0].end; x += shape[0])
    for (std::int64_t y = box.axes[1].begin; y < box.axes[1].end; y += shape[1])
      for (std::int64_t z = box.axes[2].begin; z < box.axes[2].end; z += shape[2])
        visit(Box{{cut(0, x), cut(1, y), cut(2, z)}});
}

/// The first of those tiles.
inline Box first_tile(const Box& box, const PerAxis<std::int64_t>& shape) {
  Box tile = box;
  for (int a = 0; a < 3; ++a) tile.axes[a].end = std::min(box.axes[a].begin + shape[a], box.axes[a].end);
  return tile;
}

/// for_each_tile with a look ahead: visit(tile, next), where next is null at the last tile.
template <class Visit>
void for_each_tile_and_next(const Box& box, const PerAxis<std::int64_t>& shape, Visit visit) {
  const Box* none = nullptr;
  Box current;
  bool started = false;
  for_each_tile(box, shape, [&](const Box& tile) {
    if (started) visit(current, &tile);
    current = tile;
    started = true;
  });
  if (started) visit(current, none);
}

/// Memory that a thread keeps between calls, so that a run allocates nothing once it is warm.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }

  /// At least `bytes` of uninitialised memory, valid until the next call on this thread.
  std::byte* reserve(std::size_t bytes) {
    if (bytes > capacity_) {
      release();
      data_ = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kAlignment}));
      capacity_ = bytes;
    }
    return data_;
  }

 private:
  void release() {
    ::operator delete(data_, std::align_val_t{kAlignment});
    data_ = nullptr;
    capacity_ = 0;
  }

  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
};

/// Hands out aligned arrays from a block of memory; with no block it only counts the bytes they would take.
class Carver {
 public:
  explicit Carver(std::byte* block) : block_(block) {}

  template <class T>
  T* take(std::int64_t count) {
    T* result = block_ == nullptr ? nullptr : reinterpret_cast<T*>(block_ + used_);
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return result;
  }

  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  std::byte* block_;
  std::size_t used_ = 0;
};

/// Tokens that a thread will need soon. Those of one head lie far apart in heads-last memory, where hardware does not
/// prefetch them, and a core waits for only a few cache lines at a time: asking for a whole tile of keys at once would
/// stall it. So they are asked for one by one, between the register blocks of the products. They are listed beforehand,
/// since stepping through boxes of tokens there costs more than it brings.
class Lookahead {
 public:
  void carve(Carver& carver, std::int64_t tokens) { tokens_ = carver.take<Token>(tokens); }

  void clear() { count_ = next_ = 0; }

  /// The tokens of a box, `width` elements each.
  template <class Element>
  void add(const PhaseView<Element>& tensor, const Box& box, std::int64_t width) {
    const auto bytes = static_cast<std::int64_t>(sizeof(Element)) * width;
    for (std::int64_t x = box.axes[0].begin; x < box.axes[0].end; ++x) {
      for (std::int64_t y = box.axes[1].begin; y < box.axes[1].end; ++y) {
        const Element* token = tensor.at(x, y, box.axes[2].begin);
        for (std::int64_t z = box.axes[2].size(); z > 0; --z, token += tensor.stride[2]) {
          tokens_[count_++] = {reinterpret_cast<const std::byte*>(token), bytes};
        }
      }
    }
  }

  /// The next `steps` steps together ask for one `parts`-th of what is left.
  void pace(std::int64_t parts, std::int64_t steps) {
    tokens_per_step_ = steps > 0 ? ceil_div(ceil_div(count_ - next_, parts), steps) : 0;
  }

  void step() {
    const std::int64_t end = std::min(next_ + tokens_per_step_, count_);
    for (; next_ < end; ++next_) {
      const Token token = tokens_[next_];
      for (std::int64_t at = 0; at < token.bytes; at += static_cast<std::int64_t>(kAlignment)) {
        __builtin_prefetch(token.data + at, 0, 2);  // to the second-level cache
      }
    }
  }

 private:
  struct Token {
    const std::byte* data;
    std::int64_t bytes;
  };

  Token* tokens_ = nullptr;
  std::int64_t count_ = 0;
  std::int64_t next_ = 0;
  std::int64_t tokens_per_step_ = 0;
};

}  // namespace vicinal::cpu
