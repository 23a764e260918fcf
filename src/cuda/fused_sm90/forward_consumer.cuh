#pragma once

// A consumer warpgroup of the fused Hopper forward kernel: products, softmax, and the way out.

#include "cuda/fused_sm90/forward_block.cuh"
#include "cuda/fused_sm90/forward_parameters.h"
#include "cuda/fused_sm90/wgmma.h"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

template <class Element>
__device__ inline std::uint32_t packed(float low, float high) {
  std::uint32_t result;
  if constexpr (ElementTraits<Element>::kDType == DType::fp16) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  }
  return result;
}

/// One consumer warpgroup: 64 rows of queries.
template <class Config>
class Consumer {
  using Element = typename Config::Element;
  static constexpr int kScores = Config::kColumns / 2;
  static constexpr int kOutputs = Config::kDim / 2;
  static constexpr int kDepth = 16;  // of one product
  static constexpr float kMinusInfinity = -__builtin_huge_valf();

 public:
  __device__ Consumer(const ForwardParameters& p, SharedMemory<Config>& shared, int warpgroup)
      : p_(p),
        shared_(shared),
        warpgroup_(warpgroup),
        warp_(static_cast<int>(threadIdx.x) / 32 % 4),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void run() {
    if (warpgroup_ == 1) pass_turn();
#pragma unroll 1
    for (int i = static_cast<int>(blockIdx.x); i < p_.grid.items; i += static_cast<int>(gridDim.x)) {
      Share share;
      if (!begin(i, share)) continue;
#pragma unroll 1
      for (int extra = 0; extra < 2; ++extra) {
        skip(extra != 0 ? share.skipped_after : share.skipped_before);
        attend(share, extra != 0);
      }
      release_query();
      finish(i);
    }
  }

 private:
  /// The first of this thread's rows, or the second.
  __device__ int row(int i) const { return warp_ * 16 + i * 8 + lane_ / 4; }

  /// Waits for the queries of work item i; false where there is nothing to do.
  __device__ bool begin(int i, Share& share) {
    const TiledGrid& grid = p_.grid;
    const WorkItem item(grid, i);
    AxisShare axes[3];
    find_axes(grid, item, warpgroup_, axes);
    share = Share(grid, axes);
    if (share.total == 0) return false;
    shared_.query_full[query_ring_.stage].wait(query_ring_.phase);
    if (share.idle()) {
      skip(share.total);
      release_query();
      return false;
    }
#pragma unroll
    for (float& o : output_) o = 0;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      bound_[r] = kMinusInfinity;
      sum_[r] = 0;
    }
    find_row_keys(item, axes);
    return true;
  }

  /// Each thread finds the keys of one position along one axis, then all look up those of their rows. The table has two
  /// halves, since the first warps may begin the next work item while the last still read.
  __device__ void find_row_keys(const WorkItem& item, const AxisShare (&axes)[3]) {
    const TileShape& shape = p_.grid.queries;
    Range* table = shared_.row_keys[warpgroup_][parity_];
    parity_ ^= 1;
    const int thread = warp_ * 32 + lane_;
    const int second = shape.extent[0];
    const int third = second + shape.extent[1];
    if (thread < third + shape.extent[2]) {
      const int axis = thread < second ? 0 : (thread < third ? 1 : 2);
      const int position = thread - (axis == 0 ? 0 : (axis == 1 ? second : third));
      const AxisShare share = axis == 0 ? axes[0] : (axis == 1 ? axes[1] : axes[2]);
      const int group = axis == 0 ? item.group[0] : (axis == 1 ? item.group[1] : item.group[2]);
      const Window window = p_.grid.axes[axis].in_group(group);
      table[thread] = keys_of_row(window, share.queries, share.halo_begin, position);
    }
    barrier_sync(4 + warpgroup_, 128);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const PackedPosition at = shared_.query_position[row(r)];
      const int rows[3] = {at.along(0), second + at.along(1), third + at.along(2)};
#pragma unroll
      for (int a = 0; a < 3; ++a) keys_[r][a] = table[at.holds_token() ? rows[a] : 0];
    }
  }

  /// Lets tiles pass that this warpgroup does not need. They are waited for, so that no stage is released twice.
  __device__ void skip(int count) {
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      shared_.key_full[keys_ring_.stage].wait(keys_ring_.phase);
      release(shared_.key_empty[keys_ring_.stage]);
      keys_ring_.advance();
      shared_.value_full[values_ring_.stage].wait(values_ring_.phase);
      release(shared_.value_empty[values_ring_.stage]);
      values_ring_.advance();
    }
  }

  __device__ void release(Barrier& empty) const {
    if (lane_ == 0) empty.arrive();
  }

  __device__ void release_query() {
    release(shared_.query_empty[query_ring_.stage]);
    query_ring_.advance();
  }

  /// Two warpgroups take turns, so that one keeps the tensor cores busy while the other is at its exponentials. Both
  /// count the same tiles, those of Share::together.
  __device__ void await_turn() const {
    if constexpr (Config::kWarpgroups == 2) barrier_sync(1 + warpgroup_, Config::kConsumers);
  }
  __device__ void pass_turn() const {
    if constexpr (Config::kWarpgroups == 2) barrier_arrive(2 - warpgroup_, Config::kConsumers);
  }

  /// S = Q K^T of the next key tile, begun.
  __device__ void begin_scores() {
    shared_.key_full[keys_ring_.stage].wait(keys_ring_.phase);
    const std::uint64_t rows = tile_descriptor(shared_address(&shared_.query[query_ring_.stage][warpgroup_]), 1024, 0);
    const std::uint64_t columns = tile_descriptor(shared_address(&shared_.key[keys_ring_.stage]), 1024, 0);
    pin(scores_);
    open_products();
#pragma unroll
    for (int k = 0; k < Config::kDim / kDepth; ++k) {
      const int chunk = k * kDepth / kChunk;
      const int within = k * kDepth % kChunk * static_cast<int>(sizeof(Element));
      Wgmma<Config::kColumns>::template multiply<Element>(
          scores_, advanced(rows, chunk * kWarpgroupRows * 128 + within),
          advanced(columns, chunk * Config::kColumns * 128 + within), k > 0);
    }
    close_products();
  }

  /// O += P V of the tile before, begun.
  __device__ void begin_output() {
    shared_.value_full[values_ring_.stage].wait(values_ring_.phase);
    const std::uint64_t values =
        tile_descriptor(shared_address(&shared_.value[values_ring_.stage]), 1024, Config::kColumns * 128);
    pin(output_);
    open_products();
#pragma unroll
    for (int k = 0; k < Config::kColumns / kDepth; ++k) {
      Wgmma<Config::kDim>::template accumulate<Element>(output_, weights_ + 4 * k, advanced(values, k * kDepth * 128));
    }
    close_products();
  }

  /// O += 0. The loop over tiles begins with a product on its way to O, in the first round too: a product begun under a
  /// condition would keep the compiler from running any two at once.
  __device__ void begin_nothing() {
    for (int w = 0; w < 4; ++w) weights_[w] = 0;
    pin(output_);
    open_products();
    Wgmma<Config::kDim>::template accumulate<Element>(output_, weights_,
                                                      tile_descriptor(shared_address(&shared_.zeros), 1024, 0));
    close_products();
  }

  /// The products of the last one begun are there.
  __device__ void end_output() {
    pin(output_);
    release(shared_.value_empty[values_ring_.stage]);
    values_ring_.advance();
  }
  __device__ void end_scores() {
    pin(scores_);
    release(shared_.key_empty[keys_ring_.stage]);
    keys_ring_.advance();
  }

  /// Attends to key tiles that follow each other: those of the grid, or the extra ones.
  __device__ void attend(const Share& share, bool extra) {
    const int count = extra ? share.extra : share.attended;
    if (count == 0) return;
    KeyTileCursor cursor{{share.outermost, 0, 0}};
    begin_scores();
    begin_nothing();
    wait_for_products<1>();
    end_scores();
#pragma unroll 1
    for (int t = 0;;) {
      mask(share, cursor, extra ? t : -1);
      float shrink[2];
      soften(shrink);
      pin(scores_);  // or the compiler moves the exponentials behind the wait that they are to fill
      wait_for_products<0>();
      if (t > 0) end_output();
      rescale(shrink);
      weigh();
      if (++t == count) break;

      const bool in_turn = !extra && share.together.contains(t);
      if (in_turn) await_turn();
      begin_scores();
      begin_output();
      if (in_turn) pass_turn();
      cursor.next(share.count[0], share.count[1]);
      wait_for_products<1>();
      end_scores();
    }
    begin_output();
    wait_for_products<0>();
    end_output();
  }

  /// Columns that a row does not see get -inf: those of a tile of the grid, or of the extra tile `extra` where that is
  /// not negative.
  __device__ void mask(const Share& share, const KeyTileCursor& cursor, int extra) {
    if (p_.sign != 1.0F) {
#pragma unroll
      for (float& s : scores_) s *= p_.sign;
    }
    std::uint32_t visible[2];
    if (shared_.masks.all_visible(p_.grid, share, cursor, extra, keys_, lane_ % 4, visible)) return;
#pragma unroll
    for (int s = 0; s < kScores; ++s) {
      if ((visible[s / 2 % 2] >> (s / 4 * 2 + s % 2) & 1) == 0) scores_[s] = kMinusInfinity;
    }
  }

  /// Scores become exponentials relative to a bound that is at most kSlack, as a power of two, below the largest so
  /// far; `shrink` is what earlier ones are to be multiplied by. The bound moves rarely, so O is seldom rescaled.
  __device__ void soften(float (&shrink)[2]) {
    constexpr float kSlack = 8;  // fp16 holds sums of products with weights up to 2^8
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float largest = bound_[i];
#pragma unroll
      for (int s = 2 * i; s < kScores; s += 4) largest = fmaxf(largest, fmaxf(scores_[s], scores_[s + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 2));
      // A row that has seen nothing yet stays at exponentials of 0.
      const float moved = largest == kMinusInfinity ? 0.0F : (largest - bound_[i]) * p_.log2_scale;
      shrink[i] = 1;
      if (moved > kSlack) {
        shrink[i] = exp2_approximate(-moved);
        bound_[i] = largest;
      }
      const float scaled = bound_[i] == kMinusInfinity ? 0.0F : bound_[i] * p_.log2_scale;
      float sum = 0;
#pragma unroll
      for (int s = 2 * i; s < kScores; s += 4) {
        scores_[s] = exp2_approximate(fmaf(scores_[s], p_.log2_scale, -scaled));
        scores_[s + 1] = exp2_approximate(fmaf(scores_[s + 1], p_.log2_scale, -scaled));
        sum += scores_[s] + scores_[s + 1];
      }
      sum_[i] = fmaf(sum_[i], shrink[i], sum);
    }
  }

  __device__ void rescale(const float (&shrink)[2]) {
    if (!__any_sync(~0U, shrink[0] != 1 || shrink[1] != 1)) return;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) output_[o] *= shrink[o / 2 % 2];
  }

  /// The exponentials as operands of the next product.
  __device__ void weigh() {
#pragma unroll
    for (int w = 0; w < kScores / 2; ++w) weights_[w] = packed<Element>(scores_[2 * w], scores_[2 * w + 1]);
  }

  /// Normalises and writes the rows of the box.
  __device__ void finish(int work_item) {
    const WorkItem item(p_.grid, work_item);
    constexpr float kLn2 = 0.693147180559945309F;
    float inverse[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum_[i] += __shfl_xor_sync(~0U, sum_[i], 1);
      sum_[i] += __shfl_xor_sync(~0U, sum_[i], 2);
      inverse[i] = __fdividef(1.0F, sum_[i]);
    }
    // Lane l holds row l / 4 and the one 8 below: two lanes of each four write their logsumexp.
    if (lane_ % 4 < 2 && p_.logsumexp.data != nullptr) {
      const bool second = lane_ % 4 == 1;
      const float bound = second ? bound_[1] : bound_[0];
      const float sum = second ? sum_[1] : sum_[0];
      int token[3];
      if (token_of(item, shared_.query_position[row(0) + (second ? 8 : 0)], token)) {
        static_cast<float*>(p_.logsumexp.data)[token_offset(p_.logsumexp, item.batch, token, item.head)] =
            fmaf(bound, p_.log2_scale, log2f(sum)) * kLn2;
      }
    }

    // On the way out lane l writes piece l % 8 of rows l / 8, l / 8 + 4, ...
    constexpr int kWidth = 8;
    constexpr int kPasses = 4;
    Element* to[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      int token[3];
      const bool exists = token_of(item, shared_.query_position[warp_ * 16 + pass * 4 + lane_ / 8], token);
      to[pass] = exists ? static_cast<Element*>(p_.output.data) +
                              token_offset(p_.output, item.batch, token, item.head) + lane_ % 8 * kWidth
                        : nullptr;
    }
    const int slot = warpgroup_ * 4 + warp_;
#pragma unroll
    for (int chunk = 0; chunk < Config::kChunks; ++chunk) {
      __syncwarp();
#pragma unroll
      for (int j = 0; j < 8 && (chunk * 8 + j) * 4 < kOutputs; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float* o = output_ + (chunk * 8 + j) * 4 + 2 * i;
          const int r = lane_ / 4 + 8 * i;
          store_shared(shared_address(&shared_.output[slot][r][(j ^ r % 8) * 16 + lane_ % 4 * 4]),
                       packed<Element>(o[0] * inverse[i], o[1] * inverse[i]));
        }
      }
      __syncwarp();
      const int columns = p_.dim_v - chunk * kChunk - lane_ % 8 * kWidth;  // from this piece on
      if (columns <= 0) continue;
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        if (to[pass] == nullptr) continue;
        const int r = pass * 4 + lane_ / 8;
        store_piece(to[pass] + chunk * kChunk,
                    load_shared_16(shared_address(&shared_.output[slot][r][(lane_ % 8 ^ r % 8) * 16])), columns);
      }
    }
  }

  __device__ void store_piece(Element* to, uint4 words, int columns) const {
    if (p_.wide_stores) {
      *reinterpret_cast<uint4*>(to) = words;
      return;
    }
    const std::uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if (e < columns) to[e].bits = static_cast<std::uint16_t>(word[e / 2] >> (e % 2 * 16));
    }
  }

  /// The token of a row; false where the row holds none.
  __device__ bool token_of(const WorkItem& item, PackedPosition at, int (&token)[3]) const {
    bool exists = at.holds_token();
#pragma unroll
    for (int a = 0; a < 3; ++a) {
      const TiledAxis& axis = p_.grid.axes[a];
      const int box = a == p_.grid.split_axis ? warpgroup_ * axis.query_box : 0;
      token[a] = item.group[a] + axis.dilation * (item.origin[a] + box + at.along(a));
      exists = exists && token[a] < axis.extent;
    }
    return exists;
  }

  const ForwardParameters& p_;
  SharedMemory<Config>& shared_;
  int warpgroup_;
  int warp_;
  int lane_;
  int parity_ = 0;  // of the work item
  RingPosition<Config::kQueries> query_ring_;
  RingPosition<Config::kStages> keys_ring_, values_ring_;

  Range keys_[2][3];  // that each row sees, relative to the halo
  float scores_[kScores];
  std::uint32_t weights_[kScores / 2];
  float output_[kOutputs];
  float bound_[2];
  float sum_[2];  // of this thread's columns
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
