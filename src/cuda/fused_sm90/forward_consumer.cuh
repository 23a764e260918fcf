#pragma once

// A consumer warpgroup of the fused Hopper forward kernel: 64 queries, of one head, or of each of two.

#include "cuda/fused_sm90/consumer.cuh"

namespace vicinal::cuda::sm90 {

template <class Config>
class ForwardConsumer;

#if VICINAL_HOPPER_CODE

template <class Config>
class ForwardConsumer : Consumer<Config> {
  using Base = Consumer<Config>;
  using Base::kScores, Base::kSums;
  using Base::p_, Base::shared_, Base::warpgroup_, Base::lane_, Base::row_ring_, Base::ring_;
  using Base::what_, Base::release, Base::release_columns;
  using typename Base::Element, typename Base::Place;

  static constexpr int kHeads = Config::kHeads;
  static constexpr int kLastHead = kHeads - 1;
  static_assert(kHeads <= 2);

  /// Exponentials are relative to a bound, which is at most kSlack, as a power of two, below the largest score so far.
  /// Scores are looked through for larger ones before exponentials are computed; or, where warpgroups take turns and
  /// the tensor cores would wait for that, only after a tile in which weights of a thread's columns sum up to more.
  static constexpr bool kLooksLater = Config::kTakesTurns;
  static constexpr int kSlack = 8;  // fp16 holds weights up to 2^8
  static constexpr float kMostWeight = 1 << kSlack;

  /// Rows are given back, and their note with them, when the last product with them is done, for the next to come in
  /// while results are written: where there is one stage of them and no other block that works meanwhile. Where there
  /// are two stages, or four blocks, registers do not suffice.
  static constexpr bool kGivesRowsEarly = Config::kRowStages == 1 && Config::kBlocks == 1;

  /// What rows see is found before the product of values is begun: a warp waits with that, which has operands in
  /// registers, until scores are nearly there. At smaller head dims that makes small windows slower
  /// (docs/decisions/0087).
  static constexpr bool kFindsFirst = Config::kDim >= 128;

  static constexpr float kMinusInfinity = -__builtin_huge_valf();
  static constexpr float kLowest = -3e38F;  // the bound of a row that has seen nothing: any score moves it
  static constexpr int kNone = -1;          // for a stage

 public:
  __device__ ForwardConsumer(const Parameters& p, SharedMemory<Config>& shared, int warpgroup)
      : Base(p, shared, warpgroup) {}

  __device__ void run() {
#pragma unroll 1
    while (true) {
      shared_.row_full[row_ring_.stage].wait(row_ring_.phase);
      const ItemNote& note = shared_.item[row_ring_.stage][warpgroup_];
      if (note.skipped_before < 0) return;
      begin();
      const ItemNote later = note;  // what is asked of it when it may not be there any more
      const auto& known = kGivesRowsEarly ? later : note;
#pragma unroll 1
      for (int extra = 0; extra < 2; ++extra) {
        skip(extra != 0 ? known.skipped_after : note.skipped_before);
        attend(extra != 0 ? known.extra : note.attended, extra != 0 || known.extra == 0 ? &note : nullptr);
      }
      const bool is_given = kGivesRowsEarly && started_[0];
      const Place place = is_given ? given_ : Base::place_of(note);
      if (!is_given) release(shared_.row_empty[row_ring_.stage]);
      row_ring_.advance();
      if (started_[0]) finish(place);
    }
  }

 private:
  __device__ void begin() {
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      started_[head] = false;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        bound_[head][r] = kLowest;
        sum_[head][r] = 0;
      }
    }
  }

  /// Lets tiles pass that this warpgroup does not need, and its turns.
  __device__ void skip(int count) {
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
#pragma unroll
      for (int head = 0; head < kHeads; ++head) {
        take_turn(head);
        give_turn();
      }
      Base::skip(1);
    }
  }

  /// Waits until the other warpgroup has begun its products of this tile and head, or, for the first warpgroup, of
  /// those before: the tensor cores take products in the order in which they were begun.
  __device__ void take_turn(int head) const {
    if constexpr (Config::kTakesTurns) {
      static_assert(Config::kStages % 2 == 0);  // so that turns are odd and even as stages are, or heads
      const int odd = (kHeads > 1 ? head : ring_.stage) & 1;
      shared_.turn[warpgroup_].wait(odd ^ (warpgroup_ == 0 ? 1 : 0));
    }
  }

  __device__ void give_turn() const {
    if constexpr (Config::kTakesTurns) release(shared_.turn[warpgroup_ ^ 1]);
  }

  /// Attends to `count` key tiles that follow each other: those of the grid, or the extra ones. With the scores of one
  /// the tensor cores add the product of the one before to O, which masks, and the look for larger scores, overlap; the
  /// other warpgroup keeps them busy while exponentials are computed. Of two heads, one after the other for each tile,
  /// in the same way. `concluded` is the work item that they are the last of, if they are.
  __device__ void attend(int count, const ItemNote* concluded) {
    if (count == 0) return;
    const bool adds = started_[0];
    this->await_keys();
    take_turn(0);
    begin_scores(0);
    give_turn();
    this->find_visible(true);
    wait_for_products<0>();
    end_scores(0);
    soften_first(0, adds, kNone);
    if constexpr (kHeads > 1) {
      begin_second();
      soften_first(1, adds, kNone);
    }
#pragma unroll 1
    for (int left = count - 1; left > 0; --left) {
      if constexpr (Config::kDim >= 128) warpgroup_ = computed_late(warpgroup_);  // registers are few
      const bool keys = shared_.key_full[ring_.stage].test(ring_.phase);
      const bool values = kHeads == 1 && shared_.value_full[ring_.before().stage].test(ring_.before().phase);
      this->await_keys(keys);
      take_turn(0);
      begin_scores(0);
      if constexpr (kFindsFirst) this->find_visible(false);
      const int multiplied = begin_output(kLastHead, values);
      give_turn();
      if constexpr (!kFindsFirst) this->find_visible(false);
      wait_for_products<1>();
      end_scores(0);
      soften(0, multiplied);
      if constexpr (kHeads > 1) {
        begin_second();
        soften(1, kNone);
      }
    }
    const int multiplied = begin_output(kLastHead, false);
    if (concluded != nullptr) {
      const Place place = Base::place_of(*concluded);
      if constexpr (kGivesRowsEarly) {
        given_ = place;
        __syncwarp();  // all have read the note
        release(shared_.row_empty[row_ring_.stage]);
      }
      conclude(place);
    }
    end_output(multiplied);
  }

  /// The scores of the same tile for the second head, and the product of the first.
  __device__ void begin_second() {
    take_turn(1);
    begin_scores(1);
    begin_output(0, false);
    give_turn();
    wait_for_products<1>();
    end_scores(1);
  }

  __device__ void begin_scores(int head) { Base::begin_scores(scores_, 0, shared_.key[ring_.stage], false, head); }

  /// The scores are there, but for masks.
  __device__ void end_scores(int head) {
    pin(scores_);
    if (head == kLastHead) {
      release_columns(shared_.key_empty[ring_.stage]);
      ring_.advance();
    }
  }

  /// O += P V of what was softened last, begun; the first product of a work item sets O. The result is the stage of V:
  /// that of the tile before, or, of the first of two heads, of the same.
  __device__ int begin_output(int head, bool there) {
    const auto values = head == kLastHead ? ring_.before() : ring_;
    if (head == 0 && !there) shared_.value_full[values.stage].wait(values.phase);
    this->begin_sums(output_[head], weights_, shared_.value[values.stage], started_[head], head);
    started_[head] = true;
    return values.stage;
  }

  /// The product of weights that is on its way is done. It took values of that stage, if it was the last to take them.
  __device__ void end_output(int stage) {
    wait_for_products<0>();
#pragma unroll
    for (int head = 0; head < kHeads; ++head) pin(output_[head]);
    if (stage != kNone) release_columns(shared_.value_empty[stage]);
  }

  /// Scores become weights: exponentials, as operands of the next product, when that of the weights before is done,
  /// which took values of the stage `multiplied`. Of a tile that follows another.
  __device__ void soften(int head, int multiplied) {
    if constexpr (!kLooksLater) {
      soften_first(head, true, multiplied);
    } else {
      soften_and_look(head, multiplied);
    }
  }

  /// Looks for larger scores first, as it must where rows have no bounds yet. `adds`: O holds something already.
  __device__ void soften_first(int head, bool adds, int multiplied) {
    float sum[2];
    mask_scores();
    const bool moves = find_bounds(head, kSlack);
    end_output(multiplied);
    if (moves && adds) rescale(head);
    take_weights(head, sum);
    add(head, sum);
  }

  /// Looks for larger scores when exponentials have been computed, which then are computed once more. It is rare, but
  /// for rows that have seen nothing: tiles that are known to bring them their first scores, which are masked since
  /// other rows have seen some, are looked through before.
  __device__ void soften_and_look(int head, int multiplied) {
    static_assert(Config::kColumns / 4 < kMostWeight, "of weights up to 1, relative to bounds just found");
    float sum[2];
    const bool masked = mask_scores();
    if (Config::kTellsFirsts && masked && (what_ & TileNote::kFirsts) != 0) {
      const bool moves = find_bounds(head, kSlack);
      end_output(kNone);  // all warps, whether or not bounds of theirs have moved: they wait for products together
      if (moves) rescale(head);
    }
    end_output(multiplied);
    take_weights(head, sum);
    if (__any_sync(~0U, fmaxf(sum[0], sum[1]) > kMostWeight)) {
      find_bounds(head, 0);
      rescale(head);
      take_weights(head, sum);
    }
    add(head, sum);
  }

  __device__ void add(int head, const float (&sum)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) sum_[head][i] += sum[i];
  }

  /// Those that a row is not to see become -inf; false where there are none such.
  __device__ bool mask_scores() {
    if (!TileNote::touched(what_)) return false;
    if ((what_ & TileNote::kSigned) != 0) {
#pragma unroll
      for (float& s : scores_) s *= p_.sign;
    }
    // Row by row, in the order of the bits: several of them become predicates at a time.
#pragma unroll
    for (int first = 0; first < kScores; first += 8) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int s = first + 2 * i; s < first + 8 && s < kScores; s += 4) {
          if (!this->sees(s)) scores_[s] = kMinusInfinity;
          if (!this->sees(s + 1)) scores_[s + 1] = kMinusInfinity;
        }
      }
    }
    return true;
  }

  /// Moves the bounds that are more than `slack` below the largest score of their row. It is rare: true where it
  /// happens for some row of the warp, and O is to be rescaled.
  __device__ bool find_bounds(int head, float slack) {
    float largest[2];  // of this thread's columns
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
    }
    bool beyond = false;
#pragma unroll
    for (int i = 0; i < 2; ++i) beyond = beyond || fmaf(largest[i], p_.log2_scale, -bound_[head][i]) > slack;
    const bool moves = __any_sync(~0U, beyond);
    if (moves) move_bounds(head, largest, slack);
    return moves;
  }

  /// What was summed up before is to be multiplied by shrink_.
  __device__ void move_bounds(int head, const float (&largest)[2], float slack) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float all = fmaxf(largest[i], __shfl_xor_sync(~0U, largest[i], 1));
      all = fmaxf(all, __shfl_xor_sync(~0U, all, 2)) * p_.log2_scale;
      const float moved = all - bound_[head][i] > slack ? all - bound_[head][i] : 0;
      shrink_[i] = exp2_approximate(-moved);
      sum_[head][i] *= shrink_[i];
      if (moved > 0) bound_[head][i] = all;
    }
  }

  __device__ void take_weights(int head, float (&sum)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float even = 0;
      float odd = 0;
#pragma unroll
      for (int s = 2 * i; s < kScores; s += 4) {
        const float first = exp2_approximate(fmaf(scores_[s], p_.log2_scale, -bound_[head][i]));
        const float second = exp2_approximate(fmaf(scores_[s + 1], p_.log2_scale, -bound_[head][i]));
        even += first;
        odd += second;
        weights_[s / 2] = packed<Element>(first, second);
      }
      sum[i] = even + odd;
    }
  }

  __device__ void rescale(int head) {
#pragma unroll
    for (int o = 0; o < kSums; ++o) output_[head][o] *= shrink_[o / 2 % 2];
  }

  /// Sums up the weights of each row and writes logsumexp, view 1, while the last product is added to O.
  __device__ void conclude(const Place& place) {
    constexpr float kLn2 = 0.693147180559945309F;
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      float* sum = sum_[head];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        sum[i] += __shfl_xor_sync(~0U, sum[i], 1);
        sum[i] += __shfl_xor_sync(~0U, sum[i], 2);
      }
      // Lane l holds row l / 4 and the one 8 below: two lanes of each four write their logsumexp.
      if (lane_ % 4 < 2 && p_.rows[1].data != nullptr) {
        const bool second = lane_ % 4 == 1;
        const float bound = second ? bound_[head][1] : bound_[head][0];
        const float total = second ? sum[1] : sum[0];
        const int r = this->row(0) + (second ? 8 : 0);
        if (Base::is_member(shared_.row_position[r], place.members)) {
          const std::int64_t at = this->offset_of(place, 1, r) + head * (p_.rows[1].head_stride / kHeads);
          static_cast<float*>(p_.rows[1].data)[at] = (bound + __log2f(total)) * kLn2;
        }
      }
    }
  }

  /// Normalises and writes the rows of the box, to view 0.
  __device__ void finish(const Place& place) {
    float inverse[kHeads][2];
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
#pragma unroll
      for (int i = 0; i < 2; ++i) inverse[head][i] = __fdividef(1.0F, sum_[head][i]);
    }
    this->write_rows(place, 0, p_.dim_v, [&](int i) {
      const int head = i / kSums;
      const float factor = inverse[head][i / 2 % 2];
      return packed<Element>(output_[head][i % kSums] * factor, output_[head][i % kSums + 1] * factor);
    });
  }

  bool started_[kHeads];  // O holds something of the work item
  float scores_[kScores];
  std::uint32_t weights_[kScores / 2];
  float output_[kHeads][kSums];
  float bound_[kHeads][2];  // log2 of what the exponentials of each row are relative to
  float sum_[kHeads][2];    // of this thread's columns
  float shrink_[2];         // of O, after the last tile
  Place given_;             // of the rows, where they have been given back
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
