// Fused neighborhood attention on the CPU, forward: online softmax over tiles of keys, memory proportional to tokens.
//
// A work item is a block of query tiles of one head. The keys of its halo are staged tile by tile (converted to compute
// type, rows contiguous); each query tile then visits exactly the keys of its own halo, with no mask code where all its
// queries attend to all of them.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/fused/forward.cpp"
#include <hwy/foreach_target.h>
// clang-format off: foreach_target.h must come first
#include <hwy/highway.h>
// clang-format on

#include <cmath>
#include <limits>

#include "cpu/fused/kernels.h"
#include "cpu/fused/schedule.h"
#include "cpu/fused/tile-inl.h"
#include "cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace vicinal::cpu::HWY_NAMESPACE {

/// A thread's scratch for one work item.
template <class Element>
struct ForwardScratch {
  using C = Compute<Element>;

  C* key;      // [tile_keys][dim]
  C* value;    // [tile_keys][dim_v]
  C* scores;   // [kChunk][16], then probabilities
  C* rows;     // [16][padded(max(dim, dim_v))]
  C* query;    // per tile [padded(dim)][16], scaled so that scores are in base 2
  C* output;   // per tile [padded(dim_v)][16], not yet normalised
  C* row_max;  // per tile [16], base 2
  C* row_sum;  // per tile [16]
  KeyList<C> list;
  TileGeometry* tiles;
  TokenList<const Element> inputs;
  TokenList<Element> outputs;
  Lookahead ahead;

  ForwardScratch(const Schedule& schedule, Carver& carver) {
    const Problem& grid = schedule.grid();
    const std::int64_t block = schedule.block_tiles();
    key = carver.take<C>(schedule.tile_keys() * grid.dim);
    value = carver.take<C>(schedule.tile_keys() * grid.dim_v);
    scores = carver.take<C>(kChunk * kLanes);
    rows = carver.take<C>(kLanes * padded(std::max(grid.dim, grid.dim_v)));
    query = carver.take<C>(block * padded(grid.dim) * kLanes);
    output = carver.take<C>(block * padded(grid.dim_v) * kLanes);
    row_max = carver.take<C>(block * kLanes);
    row_sum = carver.take<C>(block * kLanes);
    tiles = carver.take<TileGeometry>(block);
    list.carve(carver, schedule.tiling().key_tile);
    inputs.carve(carver, std::max(schedule.tile_keys(), block * kLanes));
    outputs.carve(carver, block * kLanes);
    ahead.carve(carver, 2 * (schedule.tile_keys() + block * kLanes));
  }
};

/// A block of queries of one head.
struct Block {
  Slice slice;
  Box queries;
};

template <class Element>
class ForwardItem {
  using C = Compute<Element>;

 public:
  ForwardItem(const Schedule& schedule, const ForwardViews& tensors, const Slice& slice,
              ForwardScratch<Element>& scratch)
      : schedule_(schedule), grid_(schedule.grid()), tensors_(tensors), slice_(slice), s_(scratch) {}

  /// `next`: the block that this thread will do after this one; null where it does not know.
  void run(const Box& queries, const Block* next) {
    begin(queries);
    const auto key = key_view(slice_);
    const auto value = value_view(slice_);
    for_each_tile_and_next(slice_.grid.halo(queries), schedule_.tiling().key_tile,
                           [&](const Box& keys, const Box* next_keys) {
                             stage<Element>(key, keys, grid_.dim, s_.inputs, s_.key);
                             stage<Element>(value, keys, grid_.dim_v, s_.inputs, s_.value);
                             look_ahead(queries, next_keys, next);
                             for (std::int64_t t = 0; t < tile_count_; ++t) {
                               s_.list.select(slice_.grid, s_.tiles[t], keys);
                               attend(t);
                             }
                           });
    if (grid_.extra_kv > 0) attend_to_extra_tokens(key_head(slice_));
    finish();
  }

 private:
  [[nodiscard]] std::int64_t key_head(const Slice& slice) const { return slice.head / (grid_.heads / grid_.heads_kv); }

  PhaseView<const Element> query_view(const Slice& slice) const {
    return phase_view<const Element>(tensors_.query, slice.batch, slice.head, grid_, slice.groups);
  }
  PhaseView<const Element> key_view(const Slice& slice) const {
    return phase_view<const Element>(tensors_.key, slice.batch, key_head(slice), grid_, slice.groups);
  }
  PhaseView<const Element> value_view(const Slice& slice) const {
    return phase_view<const Element>(tensors_.value, slice.batch, key_head(slice), grid_, slice.groups);
  }

  /// After the current tile comes the next one; or else the output is written and the next block begins.
  void look_ahead(const Box& queries, const Box* next_keys, const Block* next) {
    s_.ahead.clear();
    if (next_keys != nullptr) {
      look_ahead(slice_, *next_keys);
      return;
    }
    const auto output = phase_view<Element>(tensors_.output, slice_.batch, slice_.head, grid_, slice_.groups);
    s_.ahead.add(output, queries, grid_.dim_v);
    if (next == nullptr) return;
    s_.ahead.add(query_view(next->slice), next->queries, grid_.dim);
    look_ahead(next->slice, first_tile(next->slice.grid.halo(next->queries), schedule_.tiling().key_tile));
  }

  void look_ahead(const Slice& slice, const Box& keys) {
    s_.ahead.add(key_view(slice), keys, grid_.dim);
    s_.ahead.add(value_view(slice), keys, grid_.dim_v);
  }

  void begin(const Box& queries) {
    const auto query = query_view(slice_);
    const std::int64_t pitch = padded(grid_.dim);
    const auto scale = static_cast<C>(grid_.effective_scale() * kLog2e);
    tile_count_ = 0;
    for_each_tile(queries, schedule_.tiling().query_tile,
                  [&](const Box& tile) { s_.tiles[tile_count_++] = TileGeometry(slice_.grid, tile); });
    load_query_tiles<Element>(
        query, s_.tiles, tile_count_, grid_.dim, pitch, s_.inputs, [&](std::int64_t) { return s_.rows; },
        [&](std::int64_t t, const C* rows) {
          rows_to_lanes(rows, pitch, grid_.dim, query_of(t));
          scale_lanes(scale, grid_.dim, query_of(t));
        });
    std::fill_n(s_.output, tile_count_ * padded(grid_.dim_v) * kLanes, C{0});
    std::fill_n(s_.row_max, tile_count_ * kLanes, -std::numeric_limits<C>::infinity());
    std::fill_n(s_.row_sum, tile_count_ * kLanes, C{0});
  }

  void attend_to_extra_tokens(std::int64_t head_kv) {
    const auto key = extra_view<const Element>(tensors_.extra_key, slice_.batch, head_kv);
    const auto value = extra_view<const Element>(tensors_.extra_value, slice_.batch, head_kv);
    const Box all{{Interval{0, 1}, Interval{0, 1}, Interval{0, grid_.extra_kv}}};
    for_each_tile(all, {1, 1, schedule_.tile_keys()}, [&](const Box& keys) {
      stage<Element>(key, keys, grid_.dim, s_.inputs, s_.key);
      stage<Element>(value, keys, grid_.dim_v, s_.inputs, s_.value);
      s_.list.select_all(keys.volume());
      s_.ahead.clear();
      for (std::int64_t t = 0; t < tile_count_; ++t) attend(t);
    });
  }

  /// Query tile t attends to the listed keys.
  void attend(std::int64_t t) {
    const std::int64_t chunks = ceil_div(s_.list.count(), kChunk);
    s_.ahead.pace(tile_count_ - t, row_blocks<C>(s_.list.count()) + chunks * row_blocks<C>(grid_.dim_v));
    for (std::int64_t first = 0; first < s_.list.count(); first += kChunk) {
      const std::int64_t count = std::min(kChunk, s_.list.count() - first);
      const std::int32_t* rows = s_.list.rows() + first;
      products(s_.key, grid_.dim, rows, count, query_of(t), grid_.dim, s_.scores, s_.ahead);
      if (s_.list.masked()) {
        softmax<true>(t, first, count);
      } else {
        softmax<false>(t, first, count);
      }
      accumulate(s_.value, grid_.dim_v, grid_.dim_v, rows, count, s_.scores, output_of(t), s_.ahead);
    }
  }

  /// One step of the online softmax: scores become probabilities relative to the new maximum.
  template <bool kMasked>
  void softmax(std::int64_t t, std::int64_t first, std::int64_t count) {
    const Tag<C> d;
    constexpr int N = kVectorLanes<C>;
    const auto lowest = hn::Set(d, -std::numeric_limits<C>::infinity());
    C* row_max = s_.row_max + t * kLanes;
    C* row_sum = s_.row_sum + t * kLanes;
    Vec<C> largest[kVectors<C>];
    for (int v = 0; v < kVectors<C>; ++v) largest[v] = hn::Load(d, row_max + v * N);
    C* scores = s_.scores;
    const auto masks = s_.list.masks(first);
    for (std::int64_t j = 0; j < count; ++j) {
      for (int v = 0; v < kVectors<C>; ++v) {
        C* at = scores + j * kLanes + v * N;
        auto score = hn::Load(d, at);
        if constexpr (kMasked) {
          const auto attended = hn::And(hn::Load(d, masks.run(j) + v * N), hn::Load(d, masks.offset(j) + v * N));
          score = hn::IfThenElse(hn::MaskFromVec(attended), score, lowest);
          hn::Store(score, d, at);
        }
        largest[v] = hn::Max(largest[v], score);
      }
    }
    bool same_maximum = true;
    HWY_ALIGN C rescale[kLanes];
    Vec<C> sum[kVectors<C>];
    for (int v = 0; v < kVectors<C>; ++v) {
      const auto before = hn::Load(d, row_max + v * N);
      same_maximum = same_maximum && hn::AllTrue(d, hn::Eq(before, largest[v]));
      hn::Store(largest[v], d, row_max + v * N);
      // A row that was masked so far has the maximum -inf: subtract 0 instead, so that exp2(-inf) gives its zeros.
      largest[v] = hn::IfThenElse(hn::Eq(largest[v], lowest), hn::Zero(d), largest[v]);
      const auto factor = exp2<C>(hn::Sub(before, largest[v]));
      hn::Store(factor, d, rescale + v * N);
      sum[v] = hn::Mul(hn::Load(d, row_sum + v * N), factor);
    }
    for (std::int64_t j = 0; j < count; ++j) {
      for (int v = 0; v < kVectors<C>; ++v) {
        C* at = scores + j * kLanes + v * N;
        const auto probability = exp2<C>(hn::Sub(hn::Load(d, at), largest[v]));
        hn::Store(probability, d, at);
        sum[v] = hn::Add(sum[v], probability);
      }
    }
    for (int v = 0; v < kVectors<C>; ++v) hn::Store(sum[v], d, row_sum + v * N);
    if (same_maximum) return;
    C* output = output_of(t);
    for (std::int64_t e = 0; e < grid_.dim_v; ++e) {
      for (int v = 0; v < kVectors<C>; ++v) {
        C* at = output + e * kLanes + v * N;
        hn::Store(hn::Mul(hn::Load(d, at), hn::Load(d, rescale + v * N)), d, at);
      }
    }
  }

  void finish() {
    const auto output = phase_view<Element>(tensors_.output, slice_.batch, slice_.head, grid_, slice_.groups);
    const std::int64_t pitch = padded(grid_.dim_v);
    store_query_tiles<Element>(
        output, s_.tiles, tile_count_, grid_.dim_v, pitch, s_.outputs,
        [&](std::int64_t t) {
          lanes_to_rows(output_of(t), grid_.dim_v, s_.rows, pitch);
          return s_.rows;
        },
        [&](std::int64_t t, std::int64_t lane) { return C{1} / s_.row_sum[t * kLanes + lane]; });
    if (!tensors_.logsumexp) return;
    const auto logsumexp = phase_view<C>(tensors_.logsumexp, slice_.batch, slice_.head, grid_, slice_.groups);
    for (std::int64_t t = 0; t < tile_count_; ++t) {
      const C* row_max = s_.row_max + t * kLanes;
      const C* row_sum = s_.row_sum + t * kLanes;
      for_each_position(s_.tiles[t].queries, [&](std::int64_t x, std::int64_t y, std::int64_t z, std::int64_t lane) {
        *logsumexp.at(x, y, z) = row_max[lane] * static_cast<C>(kLn2) + std::log(row_sum[lane]);
      });
    }
  }

  C* query_of(std::int64_t t) { return s_.query + t * padded(grid_.dim) * kLanes; }
  C* output_of(std::int64_t t) { return s_.output + t * padded(grid_.dim_v) * kLanes; }

  const Schedule& schedule_;
  const Problem& grid_;
  const ForwardViews& tensors_;
  const Slice& slice_;
  ForwardScratch<Element>& s_;
  std::int64_t tile_count_ = 0;
};

template <class Element>
void forward_items(const Schedule& schedule, const ForwardViews& tensors, int threads) {
  Carver sizes(nullptr);
  ForwardScratch<Element>{schedule, sizes};
  const std::int64_t run = schedule.blocks_of_a_run(threads);
  parallel_for(ceil_div(schedule.block_items(), run), threads, [&](std::int64_t number, int) {
    Carver carver(thread_scratch(sizes.used()));
    ForwardScratch<Element> scratch(schedule, carver);
    std::array<Block, 2> blocks;  // the current one and the one after it, in turn
    const std::int64_t end = std::min((number + 1) * run, schedule.block_items());
    bool present = schedule.block_item(number * run, blocks[0].slice, blocks[0].queries);
    for (std::int64_t item = number * run, at = 0; item < end; ++item, at ^= 1) {
      const Block& block = blocks[static_cast<std::size_t>(at)];
      Block& next = blocks[static_cast<std::size_t>(at ^ 1)];
      const bool more = item + 1 < end && schedule.block_item(item + 1, next.slice, next.queries);
      if (present)
        ForwardItem<Element>(schedule, tensors, block.slice, scratch).run(block.queries, more ? &next : nullptr);
      present = more;
    }
  });
}

void fused_forward(const Schedule& schedule, const ForwardViews& tensors, int threads) {
  switch (schedule.grid().dtype) {
    case DType::fp64: return forward_items<double>(schedule, tensors, threads);
    case DType::fp32: return forward_items<float>(schedule, tensors, threads);
    case DType::fp16: return forward_items<hwy::float16_t>(schedule, tensors, threads);
    case DType::bf16: return forward_items<hwy::bfloat16_t>(schedule, tensors, threads);
  }
}

}  // namespace vicinal::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vicinal::cpu {

HWY_EXPORT(fused_forward);

void run_fused_forward(const Problem& grid, const Tiling& tiling, const ForwardViews& tensors,
                       const Execution& execution) {
  const Schedule schedule(grid, tiling, Operation::forward);
  HWY_DYNAMIC_DISPATCH(fused_forward)(schedule, tensors, thread_count(execution.threads));
}

}  // namespace vicinal::cpu
#endif
