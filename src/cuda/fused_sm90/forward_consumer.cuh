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

#ifndef EMU
#define EMU 0
#endif
/// One consumer warpgroup: 64 rows of queries.
template <class Config>
class Consumer {
  using Element = typename Config::Element;
  static constexpr int kScores = Config::kColumns / 2;
  static constexpr int kOutputs = Config::kDim / 2;
  static constexpr int kDepth = 16;  // of one product
  static constexpr float kMinusInfinity = -__builtin_huge_valf();
  static constexpr float kLowest = -3e38F;  // the bound of a row that has seen nothing: any score moves it

 public:
  __device__ Consumer(const ForwardParameters& p, SharedMemory<Config>& shared, int warpgroup)
      : p_(p),
        shared_(shared),
        warpgroup_(warpgroup),
        warp_(static_cast<int>(threadIdx.x) / 32 % 4),
        lane_(static_cast<int>(threadIdx.x) % 32) {
    for (int r = 0; r < 2; ++r) {
      const PackedPosition at = shared_.query_position[row(r)];
      if (at.holds_token()) at_[r] = at;
    }
  }

  __device__ void run() {
#pragma unroll 1
    while (true) {
      shared_.query_full[query_ring_.stage].wait(query_ring_.phase);
      const ItemNote& note = shared_.item[query_ring_.stage][warpgroup_];
      if (note.skipped_before < 0) return;
      begin();
#pragma unroll 1
      for (int extra = 0; extra < 2; ++extra) {
        skip(extra != 0 ? note.skipped_after : note.skipped_before);
        attend(extra != 0 ? note.extra : note.attended);
      }
      const Place place{note.output, note.logsumexp, note.members};
      release(shared_.query_empty[query_ring_.stage]);
      query_ring_.advance();
      if (started_) finish(place);
    }
  }

 private:
  /// Where a box goes: as in ItemNote.
  struct Place {
    std::int64_t output, logsumexp;
    std::uint32_t members;
  };

  /// The first of this thread's rows, or the second.
  __device__ int row(int i) const { return warp_ * 16 + i * 8 + lane_ / 4; }

  __device__ void begin() {
    started_ = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      bound_[r] = kLowest;
      sum_[r] = 0;
    }
  }

  /// Lets tiles pass that this warpgroup does not need. They are waited for, so that no stage is released twice.
  __device__ void skip(int count) {
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      shared_.key_full[key_ring_.stage].wait(key_ring_.phase);
      release(shared_.key_empty[key_ring_.stage]);
      key_ring_.advance();
      shared_.value_full[value_ring_.stage].wait(value_ring_.phase);
      release(shared_.value_empty[value_ring_.stage]);
      value_ring_.advance();
    }
  }

  __device__ void release(Barrier& empty) const {
    if (lane_ == 0) empty.arrive();
  }

  /// Attends to `count` key tiles that follow each other: those of the grid, or the extra ones. While the scores of one
  /// become exponentials, the tensor cores add the product of the one before to O. A round of the loop ends with the
  /// exponentials and begins with the wait for O: the compiler moves that wait up as far as a branch lets it.
  __device__ void attend(int count) {
    if (count == 0) return;
    const bool adds = started_;
    await_keys(false);
    begin_scores();
    wait_for_products<0>();
    end_scores();
    bool shrinks = soften() && adds;
#pragma unroll 1
    for (int t = 1; t < count; ++t) {
      wait_for_products<0>();
      end_output(t > 1);
      const bool keys = shared_.key_full[key_ring_.stage].test(key_ring_.phase);
      const bool values = shared_.value_full[value_ring_.stage].test(value_ring_.phase);
      if (shrinks) rescale();
      weigh();
      await_keys(keys);
      begin_scores();
      begin_output(values);
      wait_for_products<1>();
      end_scores();
      shrinks = soften();
    }
    wait_for_products<0>();
    end_output(count > 1);
    if (shrinks) rescale();
    weigh();
    begin_output(false);
    wait_for_products<0>();
    end_output(true);
  }

  __device__ void await_keys(bool there) {
    if (!there) shared_.key_full[key_ring_.stage].wait(key_ring_.phase);
    what_ = shared_.tile[key_ring_.stage][warpgroup_].what;
  }

  /// S = Q K^T of the next key tile, begun.
  __device__ void begin_scores() {
    const std::uint64_t rows = tile_descriptor(shared_address(&shared_.query[query_ring_.stage][warpgroup_]), 1024, 0);
    const std::uint64_t columns = tile_descriptor(shared_address(&shared_.key[key_ring_.stage]), 1024, 0);
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

  /// The scores are there, those that a row is not to see at -inf.
  __device__ void end_scores() {
    pin(scores_);
    if (TileNote::touched(what_)) touch(shared_.tile[key_ring_.stage][warpgroup_]);
    release(shared_.key_empty[key_ring_.stage]);
    key_ring_.advance();
  }

  __device__ void touch(const TileNote& note) {
    if ((what_ & TileNote::kSigned) != 0) {
#pragma unroll
      for (float& s : scores_) s *= p_.sign;
    }
    const Range* table = shared_.row_keys[query_ring_.stage][warpgroup_];
    const int* extent = p_.grid.queries.extent;
    const auto keys = [&](int r, int axis) {
      return table[(axis > 0 ? extent[0] : 0) + (axis > 1 ? extent[1] : 0) + at_[r].along(axis)];
    };
    std::uint32_t visible[2];
    shared_.masks.visible(p_.grid, note, keys, lane_ % 4, visible);
#pragma unroll
    for (int s = 0; s < kScores; ++s) {
      if ((visible[s / 2 % 2] >> (s / 4 * 2 + s % 2) & 1) == 0) scores_[s] = kMinusInfinity;
    }
  }

  /// O += P V of the tile before, begun; the first product of a work item sets O.
  __device__ void begin_output(bool there) {
    if (!there) shared_.value_full[value_ring_.stage].wait(value_ring_.phase);
    const std::uint64_t values =
        tile_descriptor(shared_address(&shared_.value[value_ring_.stage]), 1024, Config::kColumns * 128);
    pin(output_);
    open_products();
#pragma unroll
    for (int k = 0; k < Config::kColumns / kDepth; ++k) {
      Wgmma<Config::kDim>::template accumulate<Element>(output_, weights_ + 4 * k, advanced(values, k * kDepth * 128),
                                                        k > 0 || started_);
    }
    close_products();
    started_ = true;
    multiplied_ = value_ring_.stage;
    value_ring_.advance();
  }

  /// O is there, if its product was `begun`.
  __device__ void end_output(bool begun) {
    pin(output_);
    if (begun) release(shared_.value_empty[multiplied_]);
  }

  /// Scores become exponentials relative to a bound that is at most kSlack, as a power of two, below the largest so
  /// far. The bound moves rarely: true where it does for some row of the warp, and O is to be rescaled.
  __device__ bool soften() {
    constexpr float kSlack = 8;  // fp16 holds sums of products with weights up to 2^8
    float largest[2];            // of this thread's columns
    bool beyond = false;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float even = scores_[2 * i];  // two chains, for half the latency
      float odd = scores_[2 * i + 1];
#pragma unroll
      for (int s = 2 * i + 4; s < kScores; s += 4) {
        even = fmaxf(even, scores_[s]);
        odd = fmaxf(odd, scores_[s + 1]);
      }
      largest[i] = fmaxf(even, odd);
      beyond = beyond || fmaf(largest[i], p_.log2_scale, -bound_[i]) > kSlack;
    }
    const bool moves = __any_sync(~0U, beyond);
    if (moves) move_bounds(largest, kSlack);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum[2] = {0, 0};
#pragma unroll
      for (int s = 2 * i; s < kScores; s += 4) {
        const bool emulated = s / 4 % 8 < EMU && Config::kDim == 64;
        const float x = fmaf(scores_[s], p_.log2_scale, -bound_[i]);
        const float y = fmaf(scores_[s + 1], p_.log2_scale, -bound_[i]);
        scores_[s] = emulated ? exp2_by_polynomial(x) : exp2_approximate(x);
        scores_[s + 1] = emulated ? exp2_by_polynomial(y) : exp2_approximate(y);
        sum[0] += scores_[s];
        sum[1] += scores_[s + 1];
      }
      sum_[i] += sum[0] + sum[1];
    }
    return moves;
  }

  /// Moves the bounds that are more than `slack` below the largest score of their row. What was summed up before is to
  /// be multiplied by shrink_.
  __device__ void move_bounds(const float (&largest)[2], float slack) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float all = fmaxf(largest[i], __shfl_xor_sync(~0U, largest[i], 1));
      all = fmaxf(all, __shfl_xor_sync(~0U, all, 2)) * p_.log2_scale;
      const float moved = all - bound_[i] > slack ? all - bound_[i] : 0;
      shrink_[i] = exp2_approximate(-moved);
      sum_[i] *= shrink_[i];
      if (moved > 0) bound_[i] = all;
    }
  }

  __device__ void rescale() {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) output_[o] *= shrink_[o / 2 % 2];
  }

  /// The exponentials as operands of the next product.
  __device__ void weigh() {
#pragma unroll
    for (int w = 0; w < kScores / 2; ++w) weights_[w] = packed<Element>(scores_[2 * w], scores_[2 * w + 1]);
  }

  /// Whether a row of the box is a query.
  __device__ static bool is_query(PackedPosition at, std::uint32_t members) {
    // With the top bit of each byte set nothing is borrowed: it stays set where the position is not below.
    constexpr std::uint32_t kTop = 0x808080;
    return (((at.bits() | kTop) - members) & kTop) == 0;
  }

  /// Normalises and writes the rows of the box.
  __device__ void finish(const Place& place) {
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
      const int r = row(0) + (second ? 8 : 0);
      if (is_query(shared_.query_position[r], place.members)) {
        static_cast<float*>(p_.logsumexp.data)[place.logsumexp + shared_.logsumexp_offset[r]] =
            (bound + log2f(sum)) * kLn2;
      }
    }

    // On the way out lane l writes piece l % 8 of rows l / 8, l / 8 + 4, ...
    constexpr int kWidth = 8;
    constexpr int kPasses = 4;
    Element* to[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int r = warp_ * 16 + pass * 4 + lane_ / 8;
      to[pass] =
          is_query(shared_.query_position[r], place.members)
              ? static_cast<Element*>(p_.output.data) + place.output + shared_.output_offset[r] + lane_ % 8 * kWidth
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

  const ForwardParameters& p_;
  SharedMemory<Config>& shared_;
  int warpgroup_;
  int warp_;
  int lane_;
  RingPosition<Config::kQueries> query_ring_;
  RingPosition<Config::kStages> key_ring_, value_ring_;

  PackedPosition at_[2];  // of this thread's rows; rows without a token see what the first does
  int what_;              // of the key tile: TileNote
  int multiplied_;        // the stage of the values of the last product
  bool started_;      // O holds something of the work item
  float scores_[kScores];
  std::uint32_t weights_[kScores / 2];
  float output_[kOutputs];
  float bound_[2];   // log2 of what the exponentials of each row are relative to
  float sum_[2];     // of this thread's columns
  float shrink_[2];  // of O, after the last tile
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
