#pragma once

// Where the backward pass sums the gradients of keys, values and extra tokens: in compute type, each by one thread at a
// time in a fixed order.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/view.h"
#include "cpu/fused/schedule.h"
#include "cpu/parallel.h"

namespace vicinal::cpu {

/// Gradients of keys and values go straight into the caller's tensors where those have compute type C, else into the
/// workspace. Every slab has its own sums for the extra tokens, since all of them attend to all extra tokens.
template <class C>
class GradientSums {
 public:
  GradientSums(const Schedule& schedule, const BackwardViews& tensors, void* workspace, bool in_place)
      : key(tensors.grad_key), value(tensors.grad_value), schedule_(schedule), in_place_(in_place) {
    Carver carver(static_cast<std::byte*>(workspace));
    carve(carver);
  }

  static std::size_t workspace_bytes(const Schedule& schedule) {
    const DType dtype = schedule.grid().dtype;
    GradientSums sums(schedule, {}, nullptr, dtype == DType::fp64 || dtype == DType::fp32);
    Carver carver(nullptr);
    sums.carve(carver);
    return carver.used();
  }

  /// Zero sums, before the first slab.
  void clear(int threads) const {
    const Problem& grid = schedule_.grid();
    for_each_token(threads, [&](std::int64_t b, std::int64_t x, std::int64_t y, std::int64_t z, std::int64_t g) {
      std::fill_n(static_cast<C*>(key.data) + key.offset(b, x, y, z, g), grid.dim, C{0});
      std::fill_n(static_cast<C*>(value.data) + value.offset(b, x, y, z, g), grid.dim_v, C{0});
    });
    const std::int64_t extra = schedule_.all_slabs() * grid.extra_kv;
    std::fill_n(extra_key_, extra * grid.dim, C{0});
    std::fill_n(extra_value_, extra * grid.dim_v, C{0});
  }

  /// This slab's sums for the extra tokens, a run along the last axis.
  [[nodiscard]] PhaseView<C> slab_extra_key(std::int64_t slab) const {
    const Problem& grid = schedule_.grid();
    return {extra_key_ + slab * grid.extra_kv * grid.dim, {0, 0, grid.dim}};
  }
  [[nodiscard]] PhaseView<C> slab_extra_value(std::int64_t slab) const {
    const Problem& grid = schedule_.grid();
    return {extra_value_ + slab * grid.extra_kv * grid.dim_v, {0, 0, grid.dim_v}};
  }

  /// After the last slab: adds up the slabs' extra tokens and rounds what was summed in the workspace to Element.
  template <class Element, class Store>
  void finish(const BackwardViews& tensors, int threads, Store store) const {
    const Problem& grid = schedule_.grid();
    if (!in_place_) {
      for_each_token(threads, [&](std::int64_t b, std::int64_t x, std::int64_t y, std::int64_t z, std::int64_t g) {
        const auto round = [&](const View& sum, const View& gradient, std::int64_t width) {
          store(static_cast<const C*>(sum.data) + sum.offset(b, x, y, z, g),
                static_cast<Element*>(gradient.data) + gradient.offset(b, x, y, z, g), width);
        };
        round(key, tensors.grad_key, grid.dim);
        round(value, tensors.grad_value, grid.dim_v);
      });
    }
    if (grid.extra_kv == 0) return;
    const std::int64_t slabs = schedule_.all_slabs() / (grid.batch * grid.heads_kv);
    const auto reduce = [&](std::int64_t slice, C* sums, std::int64_t width, const View& gradient) {
      const std::int64_t count = grid.extra_kv * width;
      C* total = sums + slice * slabs * count;  // the first slab's, to which the others are added
      for (std::int64_t slab = 1; slab < slabs; ++slab) {
        for (std::int64_t i = 0; i < count; ++i) total[i] += total[slab * count + i];
      }
      for (std::int64_t n = 0; n < grid.extra_kv; ++n) {
        store(total + n * width,
              static_cast<Element*>(gradient.data) +
                  gradient.offset(slice / grid.heads_kv, 0, 0, n, slice % grid.heads_kv),
              width);
      }
    };
    parallel_for(grid.batch * grid.heads_kv, threads, [&](std::int64_t slice, int) {
      reduce(slice, extra_key_, grid.dim, tensors.grad_extra_key);
      reduce(slice, extra_value_, grid.dim_v, tensors.grad_extra_value);
    });
  }

  View key;    // [B, X, Y, Z, G, D]
  View value;  // [B, X, Y, Z, G, E]

 private:
  void carve(Carver& carver) {
    const Problem& grid = schedule_.grid();
    if (!in_place_) {
      key = take_view(carver, grid.dim);
      value = take_view(carver, grid.dim_v);
    }
    extra_key_ = carver.take<C>(schedule_.all_slabs() * grid.extra_kv * grid.dim);
    extra_value_ = carver.take<C>(schedule_.all_slabs() * grid.extra_kv * grid.dim_v);
  }

  /// Heads-first, so that a thread's head is contiguous.
  View take_view(Carver& carver, std::int64_t width) const {
    const Problem& grid = schedule_.grid();
    View view;
    view.axis_stride = {grid.layout[1] * grid.layout[2] * width, grid.layout[2] * width, width};
    view.head_stride = grid.tokens() * width;
    view.batch_stride = grid.heads_kv * view.head_stride;
    view.data = carver.take<C>(grid.batch * view.batch_stride);
    view.dtype = std::is_same_v<C, double> ? DType::fp64 : DType::fp32;
    return view;
  }

  /// visit(b, x, y, z, g) for every token of every key/value head.
  template <class Visit>
  void for_each_token(int threads, Visit visit) const {
    constexpr std::int64_t kTokensPerItem = 256;
    const Problem& grid = schedule_.grid();
    const std::int64_t tokens = grid.tokens();
    const std::int64_t runs = ceil_div(tokens, kTokensPerItem);
    parallel_for(grid.batch * runs, threads, [&](std::int64_t item, int) {
      const std::int64_t first = item % runs * kTokensPerItem;
      for (std::int64_t token = first; token < std::min(first + kTokensPerItem, tokens); ++token) {
        const std::int64_t z = token % grid.layout[2];
        const std::int64_t xy = token / grid.layout[2];
        for (std::int64_t g = 0; g < grid.heads_kv; ++g) {
          visit(item / runs, xy / grid.layout[1], xy % grid.layout[1], z, g);
        }
      }
    });
  }

  const Schedule& schedule_;
  bool in_place_;
  C* extra_key_ = nullptr;    // [slab][extra_kv][dim]
  C* extra_value_ = nullptr;  // [slab][extra_kv][dim_v]
};

}  // namespace vicinal::cpu
