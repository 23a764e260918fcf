// Fused neighborhood attention on the CPU, backward: gradients of query, key, value and extra tokens in one pass over
// (query tile, key tile) pairs, with the probabilities recomputed from logsumexp (paper, section 3.2).
//
// A work item is a slab of one key/value head (see Schedule): one thread walks its blocks in order, so sums never
// depend on the number of threads. Gradients of the staged keys are summed beside them and added to the whole once per
// block.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/fused/backward.cpp"
#include <hwy/foreach_target.h>
// clang-format off: foreach_target.h must come first
#include <hwy/highway.h>
// clang-format on

#include <limits>

#include "cpu/fused/gradient_sums.h"
#include "cpu/fused/kernels.h"
#include "cpu/fused/schedule.h"
#include "cpu/fused/tile-inl.h"
#include "cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace vicinal::cpu::HWY_NAMESPACE {

/// A thread's scratch for one work item. Rows of padded width where they are read as vectors.
template <class Element>
struct BackwardScratch {
  using C = Compute<Element>;

  C* key;            // [tile_keys][dim]
  C* value;          // [tile_keys][dim_v]
  C* grad_key;       // [tile_keys][padded(dim)], times 1 / scale
  C* grad_value;     // [tile_keys][padded(dim_v)]
  C* probabilities;  // [kChunk][16]
  C* grad_scores;    // [kChunk][16]
  C* rows;           // [16][padded(max(dim, dim_v))]
  C* query_rows;     // per tile [16][padded(dim)]
  C* query;          // per tile [padded(dim)][16], scaled so that scores are in base 2
  C* grad_query;     // per tile [padded(dim)][16], times 1 / scale
  C* grad_out_rows;  // per tile [16][padded(dim_v)]
  C* grad_out;       // per tile [padded(dim_v)][16]
  C* logsumexp;      // per tile [16], base 2; +inf in lanes that hold no query, so that their probabilities are 0
  C* delta;          // per tile [16], rowsum(grad_output * output) - grad_logsumexp
  KeyList<C> list;
  TileGeometry* tiles;
  TokenList<const Element> inputs;
  TokenList<Element> outputs;
  TokenList<C> sums;
  Lookahead ahead;

  BackwardScratch(const Schedule& schedule, Carver& carver) {
    const Problem& grid = schedule.grid();
    const std::int64_t block = schedule.block_tiles();
    const std::int64_t dim = padded(grid.dim);
    const std::int64_t dim_v = padded(grid.dim_v);
    key = carver.take<C>(schedule.tile_keys() * grid.dim);
    value = carver.take<C>(schedule.tile_keys() * grid.dim_v);
    grad_key = carver.take<C>(schedule.tile_keys() * dim);
    grad_value = carver.take<C>(schedule.tile_keys() * dim_v);
    probabilities = carver.take<C>(kChunk * kLanes);
    grad_scores = carver.take<C>(kChunk * kLanes);
    rows = carver.take<C>(kLanes * std::max(dim, dim_v));
    query_rows = carver.take<C>(block * dim * kLanes);
    query = carver.take<C>(block * dim * kLanes);
    grad_query = carver.take<C>(block * dim * kLanes);
    grad_out_rows = carver.take<C>(block * dim_v * kLanes);
    grad_out = carver.take<C>(block * dim_v * kLanes);
    logsumexp = carver.take<C>(block * kLanes);
    delta = carver.take<C>(block * kLanes);
    tiles = carver.take<TileGeometry>(block);
    list.carve(carver, schedule.tiling().key_tile);
    inputs.carve(carver, std::max(schedule.tile_keys(), block * kLanes));
    outputs.carve(carver, block * kLanes);
    sums.carve(carver, schedule.tile_keys());
    ahead.carve(carver, 4 * (schedule.tile_keys() + block * kLanes));
  }
};

template <class Element>
class BackwardItem {
  using C = Compute<Element>;

 public:
  BackwardItem(const Schedule& schedule, const BackwardViews& tensors, const GradientSums<C>& sums, const Slice& slice,
               std::int64_t slab, BackwardScratch<Element>& scratch)
      : schedule_(schedule),
        grid_(schedule.grid()),
        tensors_(tensors),
        sums_(sums),
        slice_(slice),
        slab_(slab),
        s_(scratch),
        dim_(padded(grid_.dim)),
        dim_v_(padded(grid_.dim_v)),
        scale_(static_cast<C>(grid_.effective_scale())) {}

  void run(const Box& slab_queries) {
    const std::int64_t share = grid_.heads / grid_.heads_kv;
    for (std::int64_t head = slice_.head * share; head < (slice_.head + 1) * share; ++head) {
      for_each_tile_and_next(slab_queries, schedule_.block_shape(), [&](const Box& queries, const Box* next_queries) {
        begin(head, queries);
        attend_to_halo(head, queries, next_queries);
        if (grid_.extra_kv > 0) attend_to_extra_tokens();
        finish(head);
      });
    }
  }

 private:
  template <class T>
  PhaseView<T> view(const View& tensor, std::int64_t head) const {
    return phase_view<T>(tensor, slice_.batch, head, grid_, slice_.groups);
  }

  void begin(std::int64_t head, const Box& queries) {
    const auto query = view<const Element>(tensors_.query, head);
    const auto output = view<const Element>(tensors_.output, head);
    const auto grad_output = view<const Element>(tensors_.grad_output, head);
    tile_count_ = 0;
    for_each_tile(queries, schedule_.tiling().query_tile,
                  [&](const Box& tile) { s_.tiles[tile_count_++] = TileGeometry(slice_.grid, tile); });
    load_query_tiles<Element>(
        query, s_.tiles, tile_count_, grid_.dim, dim_, s_.inputs,
        [&](std::int64_t t) { return s_.query_rows + t * dim_ * kLanes; },
        [&](std::int64_t t, const C* rows) {
          rows_to_lanes(rows, dim_, grid_.dim, s_.query + t * dim_ * kLanes);
          scale_lanes(static_cast<C>(grid_.effective_scale() * kLog2e), grid_.dim, s_.query + t * dim_ * kLanes);
        });
    load_query_tiles<Element>(
        grad_output, s_.tiles, tile_count_, grid_.dim_v, dim_v_, s_.inputs,
        [&](std::int64_t t) { return s_.grad_out_rows + t * dim_v_ * kLanes; },
        [&](std::int64_t t, const C* rows) {
          rows_to_lanes(rows, dim_v_, grid_.dim_v, s_.grad_out + t * dim_v_ * kLanes);
        });
    load_query_tiles<Element>(
        output, s_.tiles, tile_count_, grid_.dim_v, dim_v_, s_.inputs, [&](std::int64_t) { return s_.rows; },
        [&](std::int64_t t, const C* rows) {
          const C* grad_rows = s_.grad_out_rows + t * dim_v_ * kLanes;
          for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            s_.delta[t * kLanes + lane] = dot(grad_rows + lane * dim_v_, rows + lane * dim_v_, grid_.dim_v);
          }
        });
    std::fill_n(s_.grad_query, tile_count_ * dim_ * kLanes, C{0});
    load_logsumexp(head);
  }

  void load_logsumexp(std::int64_t head) {
    const auto saved = view<const C>(tensors_.logsumexp, head);
    std::fill_n(s_.logsumexp, tile_count_ * kLanes, std::numeric_limits<C>::infinity());
    for (std::int64_t t = 0; t < tile_count_; ++t) {
      for_each_position(s_.tiles[t].queries, [&](std::int64_t x, std::int64_t y, std::int64_t z, std::int64_t lane) {
        s_.logsumexp[t * kLanes + lane] = *saved.at(x, y, z) * static_cast<C>(kLog2e);
      });
    }
    if (!tensors_.grad_logsumexp) return;
    const auto grad = view<const C>(tensors_.grad_logsumexp, head);
    for (std::int64_t t = 0; t < tile_count_; ++t) {
      for_each_position(s_.tiles[t].queries, [&](std::int64_t x, std::int64_t y, std::int64_t z, std::int64_t lane) {
        s_.delta[t * kLanes + lane] -= *grad.at(x, y, z);
      });
    }
  }

  void attend_to_halo(std::int64_t head, const Box& queries, const Box* next_queries) {
    const auto key = view<const Element>(tensors_.key, slice_.head);
    const auto value = view<const Element>(tensors_.value, slice_.head);
    const auto grad_key = view<C>(sums_.key, slice_.head);
    const auto grad_value = view<C>(sums_.value, slice_.head);
    const auto& key_tile = schedule_.tiling().key_tile;
    for_each_tile_and_next(slice_.grid.halo(queries), key_tile, [&](const Box& keys, const Box* next_keys) {
      stage_keys(key, value, keys);
      s_.ahead.clear();
      s_.ahead.add(grad_key, keys, grid_.dim);
      s_.ahead.add(grad_value, keys, grid_.dim_v);
      if (next_keys == nullptr) s_.ahead.add(view<Element>(tensors_.grad_query, head), queries, grid_.dim);
      if (next_keys == nullptr && next_queries != nullptr) look_ahead_to_queries(head, *next_queries);
      if (next_keys != nullptr || next_queries != nullptr) {
        const Box next = next_keys != nullptr ? *next_keys : first_tile(slice_.grid.halo(*next_queries), key_tile);
        s_.ahead.add(key, next, grid_.dim);
        s_.ahead.add(value, next, grid_.dim_v);
      }
      for (std::int64_t t = 0; t < tile_count_; ++t) {
        s_.list.select(slice_.grid, s_.tiles[t], keys);
        attend(t);
      }
      add_gradients(grad_key, grad_value, keys);
    });
  }

  void look_ahead_to_queries(std::int64_t head, const Box& queries) {
    s_.ahead.add(view<const Element>(tensors_.query, head), queries, grid_.dim);
    s_.ahead.add(view<const Element>(tensors_.output, head), queries, grid_.dim_v);
    s_.ahead.add(view<const Element>(tensors_.grad_output, head), queries, grid_.dim_v);
  }

  void attend_to_extra_tokens() {
    const auto key = extra_view<const Element>(tensors_.extra_key, slice_.batch, slice_.head);
    const auto value = extra_view<const Element>(tensors_.extra_value, slice_.batch, slice_.head);
    const auto grad_key = sums_.slab_extra_key(slab_);
    const auto grad_value = sums_.slab_extra_value(slab_);
    const Box all{{Interval{0, 1}, Interval{0, 1}, Interval{0, grid_.extra_kv}}};
    for_each_tile(all, {1, 1, schedule_.tile_keys()}, [&](const Box& keys) {
      stage_keys(key, value, keys);
      s_.list.select_all(keys.volume());
      s_.ahead.clear();
      for (std::int64_t t = 0; t < tile_count_; ++t) attend(t);
      add_gradients(grad_key, grad_value, keys);
    });
  }

  void stage_keys(const PhaseView<const Element>& key, const PhaseView<const Element>& value, const Box& keys) {
    stage<Element>(key, keys, grid_.dim, s_.inputs, s_.key);
    stage<Element>(value, keys, grid_.dim_v, s_.inputs, s_.value);
    std::fill_n(s_.grad_key, keys.volume() * dim_, C{0});
    std::fill_n(s_.grad_value, keys.volume() * dim_v_, C{0});
  }

  void add_gradients(const PhaseView<C>& grad_key, const PhaseView<C>& grad_value, const Box& keys) {
    add_rows(s_.grad_key, dim_, scale_, grad_key, keys, grid_.dim);
    add_rows(s_.grad_value, dim_v_, C{1}, grad_value, keys, grid_.dim_v);
  }

  void add_rows(const C* rows, std::int64_t pitch, C factor, const PhaseView<C>& sum, const Box& keys,
                std::int64_t width) {
    s_.sums.clear(width);
    s_.sums.add(sum, keys);
    for (std::int64_t i = 0; i < s_.sums.count(); ++i) add_row(rows + i * pitch, factor, s_.sums.visit(i), width);
  }

  /// Gradients from the pairs of query tile t and the listed keys.
  void attend(std::int64_t t) {
    const std::int64_t blocks_of_keys = row_blocks<C>(s_.list.count());
    const std::int64_t chunks = ceil_div(s_.list.count(), kChunk);
    s_.ahead.pace(tile_count_ - t, blocks_of_keys * (2 + (dim_ + dim_v_) / kLanes) + chunks * row_blocks<C>(grid_.dim));
    for (std::int64_t first = 0; first < s_.list.count(); first += kChunk) {
      const std::int64_t count = std::min(kChunk, s_.list.count() - first);
      const std::int32_t* rows = s_.list.rows() + first;
      products(s_.key, grid_.dim, rows, count, s_.query + t * dim_ * kLanes, grid_.dim, s_.probabilities, s_.ahead);
      products(s_.value, grid_.dim_v, rows, count, s_.grad_out + t * dim_v_ * kLanes, grid_.dim_v, s_.grad_scores,
               s_.ahead);
      if (s_.list.masked()) {
        differentiate_softmax<true>(t, first, count);
      } else {
        differentiate_softmax<false>(t, first, count);
      }
      scatter_products(s_.probabilities, s_.grad_out_rows + t * dim_v_ * kLanes, dim_v_, s_.grad_value, rows, count,
                       s_.ahead);
      scatter_products(s_.grad_scores, s_.query_rows + t * dim_ * kLanes, dim_, s_.grad_key, rows, count, s_.ahead);
      accumulate(s_.key, grid_.dim, grid_.dim, rows, count, s_.grad_scores, s_.grad_query + t * dim_ * kLanes,
                 s_.ahead);
    }
  }

  /// Scores become probabilities P = exp(S - logsumexp), and dP becomes dS = P * (dP - delta).
  template <bool kMasked>
  void differentiate_softmax(std::int64_t t, std::int64_t first, std::int64_t count) {
    const Tag<C> d;
    constexpr int N = kVectorLanes<C>;
    Vec<C> logsumexp[kVectors<C>];
    Vec<C> delta[kVectors<C>];
    for (int v = 0; v < kVectors<C>; ++v) {
      logsumexp[v] = hn::Load(d, s_.logsumexp + t * kLanes + v * N);
      delta[v] = hn::Load(d, s_.delta + t * kLanes + v * N);
    }
    C* probabilities = s_.probabilities;
    C* grad_scores = s_.grad_scores;
    const auto masks = s_.list.masks(first);
    for (std::int64_t j = 0; j < count; ++j) {
      for (int v = 0; v < kVectors<C>; ++v) {
        const std::int64_t at = j * kLanes + std::int64_t{v} * N;
        auto p = exp2<C>(hn::Sub(hn::Load(d, probabilities + at), logsumexp[v]));
        auto grad = hn::Mul(p, hn::Sub(hn::Load(d, grad_scores + at), delta[v]));
        if constexpr (kMasked) {
          const auto attended = hn::And(hn::Load(d, masks.run(j) + v * N), hn::Load(d, masks.offset(j) + v * N));
          p = hn::And(p, attended);
          grad = hn::And(grad, attended);
        }
        hn::Store(p, d, probabilities + at);
        hn::Store(grad, d, grad_scores + at);
      }
    }
  }

  void finish(std::int64_t head) {
    store_query_tiles<Element>(
        view<Element>(tensors_.grad_query, head), s_.tiles, tile_count_, grid_.dim, dim_, s_.outputs,
        [&](std::int64_t t) {
          lanes_to_rows(s_.grad_query + t * dim_ * kLanes, grid_.dim, s_.rows, dim_);
          return s_.rows;
        },
        [&](std::int64_t, std::int64_t) { return scale_; });
  }

  const Schedule& schedule_;
  const Problem& grid_;
  const BackwardViews& tensors_;
  const GradientSums<C>& sums_;
  const Slice& slice_;
  const std::int64_t slab_;
  BackwardScratch<Element>& s_;
  const std::int64_t dim_;
  const std::int64_t dim_v_;
  const C scale_;
  std::int64_t tile_count_ = 0;
};

template <class Element>
void backward_slabs(const Schedule& schedule, const BackwardViews& tensors, const GradientSums<Compute<Element>>& sums,
                    int threads) {
  Carver sizes(nullptr);
  BackwardScratch<Element>{schedule, sizes};
  for (int wave = 0; wave < schedule.waves(); ++wave) {
    parallel_for(schedule.slab_items(wave), threads, [&](std::int64_t item, int) {
      Slice slice;
      Box queries;
      std::int64_t slab;
      if (!schedule.slab_item(wave, item, slice, queries, slab)) return;
      Carver carver(thread_scratch(sizes.used()));
      BackwardScratch<Element> scratch(schedule, carver);
      BackwardItem<Element>(schedule, tensors, sums, slice, slab, scratch).run(queries);
    });
  }
}

template <class Element>
void store_sums(const Compute<Element>* sum, Element* destination, std::int64_t count) {
  store_row<Element>(sum, 1, destination, count);
}

template <class Element>
void backward_pass(const Schedule& schedule, const BackwardViews& tensors, void* workspace, int threads) {
  using C = Compute<Element>;
  const GradientSums<C> sums(schedule, tensors, workspace, std::is_same_v<Element, C>);
  sums.clear(threads);
  backward_slabs<Element>(schedule, tensors, sums, threads);
  sums.template finish<Element>(tensors, threads, store_sums<Element>);
}

void fused_backward(const Schedule& schedule, const BackwardViews& tensors, void* workspace, int threads) {
  switch (schedule.grid().dtype) {
    case DType::fp64: return backward_pass<double>(schedule, tensors, workspace, threads);
    case DType::fp32: return backward_pass<float>(schedule, tensors, workspace, threads);
    case DType::fp16: return backward_pass<hwy::float16_t>(schedule, tensors, workspace, threads);
    case DType::bf16: return backward_pass<hwy::bfloat16_t>(schedule, tensors, workspace, threads);
  }
}

}  // namespace vicinal::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vicinal::cpu {

HWY_EXPORT(fused_backward);

void run_fused_backward(const Problem& grid, const Tiling& tiling, const BackwardViews& tensors,
                        const Execution& execution) {
  const Schedule schedule(grid, tiling, Operation::backward);
  HWY_DYNAMIC_DISPATCH(fused_backward)(schedule, tensors, execution.workspace, thread_count(execution.threads));
}

std::size_t fused_backward_workspace(const Problem& grid, const Tiling& tiling) {
  const Schedule schedule(grid, tiling, Operation::backward);
  return grid.dtype == DType::fp64 ? GradientSums<double>::workspace_bytes(schedule)
                                   : GradientSums<float>::workspace_bytes(schedule);
}

}  // namespace vicinal::cpu
#endif
