#pragma once

// A consumer warpgroup of the fused Hopper backward pass over keys: 64 rows of dK and dV, or of one of them.

#include "cuda/fused_sm90/consumer.cuh"
#include "cuda/fused_sm90/delta.h"

namespace vicinal::cuda::sm90 {

template <class Config>
class GradKeyValueConsumer;

#if VICINAL_HOPPER_CODE

/// For each tile of queries that passes by, transposed, so that weights are operands in registers as they are:
/// P = exp(S - logsumexp) from S = K Q^T, dP = V dO^T, dS = P (dP - delta), dV += P dO and dK += scale dS Q. Query
/// heads that share the rows' head pass by one after the other. Rows are written once, so results are the same in every
/// run.
template <class Config>
class GradKeyValueConsumer : protected Consumer<Config> {
 protected:
  using Base = Consumer<Config>;
  using Base::kScores, Base::kSums;
  using Base::p_, Base::shared_, Base::warpgroup_, Base::lane_, Base::row_ring_, Base::ring_;
  using Base::what_, Base::release;
  using typename Base::Element, typename Base::Place;
  static constexpr bool kHasKey = Config::kPass != Pass::grad_value;
  static constexpr bool kHasValue = Config::kPass != Pass::grad_key;
  static constexpr int kShift = weight_shift(ElementTraits<Element>::kDType);
  static constexpr float kUnshifted = 1.0F / (1 << kShift);
  /// Whether registers hold weights in float beside the sums; else dS is made of rounded ones.
  static constexpr bool kKeepsWeights =
      Config::kBlocks == 1 && !(kHasKey && kHasValue && (Config::kDim >= 128 || Config::kSumsQueries));

 public:
  __device__ GradKeyValueConsumer(const Parameters& p, SharedMemory<Config>& shared, int warpgroup)
      : Base(p, shared, warpgroup) {}

  __device__ void run() {
    keep_rows([this](int count) { this->skip(count); }, [this](int count) { attend(count); });
  }

 protected:
  /// Sums the gradients of boxes, one after the other, until there is no more work: `pass_by` lets that many tiles pass
  /// which the warpgroup does not need, `attend` takes those that it needs.
  template <class PassBy, class Attend>
  __device__ void keep_rows(PassBy pass_by, Attend attend) {
#pragma unroll 1
    while (true) {
      shared_.row_full[row_ring_.stage].wait(row_ring_.phase);
      if (note().skipped_before < 0) return;
      if constexpr (kHasKey) clear(grad_key_);
      if constexpr (kHasValue) clear(grad_value_);
#pragma unroll 1
      for (int head = 0; head < p_.grid.heads_per_kv; ++head) {
        pass_by(note().skipped_before);
        attend(note().attended);
        pass_by(note().skipped_after);
      }
      const bool has_rows = note().attended > 0;
      const Place place = Base::place_of(note());   // not before: sums leave few registers
      __syncwarp();                                 // all have read the note
      release(shared_.row_empty[row_ring_.stage]);  // the next rows come in while these are written
      row_ring_.advance();
      if (has_rows) {
        if constexpr (kHasKey) this->write_rows(place, 0, grad_key_, {p_.scale, p_.scale}, p_.dim);
        if constexpr (kHasValue) this->write_rows(place, 1, grad_value_, {kUnshifted, kUnshifted}, p_.dim_v);
      }
    }
  }

  /// Of the rows that are here, found anew each time, as registers are few.
  __device__ const ItemNote& note() const { return shared_.item[row_ring_.stage][computed_late(warpgroup_)]; }

  __device__ static void clear(float (&sums)[kSums]) {
#pragma unroll
    for (float& sum : sums) sum = 0;
  }

 private:
  __device__ void attend(int count) {
    if (count == 0) return;
    if constexpr (kHasKey) {
      attend_for_keys(count);
    } else {
      attend_for_values(count);
    }
  }

  __device__ void attend_for_keys(int count) {
    int multiplied = 0;  // the stage of the queries of the last product
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      const int stage = ring_.stage;
      this->await_keys();
      this->begin_scores(scores_, 0, shared_.key[stage]);
      wait_for_products<1>();  // of the dK before, whose operand makes way
      pin(grad_key_);
      if (t > 0) release(shared_.key_empty[multiplied]);
      shared_.value_full[stage].wait(ring_.phase);
      this->begin_scores(grad_weights_, 1, shared_.value[stage]);
      this->find_visible(t == 0);
      wait_for_products<1>();
      pin(scores_);
      soften(stage);
      pin(weights_);
      if constexpr (kHasValue) this->begin_sums(grad_value_, weights_, shared_.value[stage]);
      wait_for_products<kHasValue ? 1 : 0>();
      pin(grad_weights_);
      if constexpr (!kHasValue) release(shared_.value_empty[stage]);
      differentiate(stage);
      pin(grad_scores_);
      this->begin_sums(grad_key_, grad_scores_, shared_.key[stage]);
      if constexpr (kHasValue) {
        wait_for_products<1>();
        pin(grad_value_);
        release(shared_.value_empty[stage]);
      }
      multiplied = stage;
      ring_.advance();
    }
    wait_for_products<0>();
    pin(grad_key_);
    release(shared_.key_empty[multiplied]);
  }

  __device__ void attend_for_values(int count) {
    int multiplied = 0;  // the stage of the gradients of the output of the last product
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      const int stage = ring_.stage;
      this->await_keys();
      this->begin_scores(scores_, 0, shared_.key[stage]);
      this->find_visible(t == 0);
      wait_for_products<1>();
      pin(grad_value_);
      if (t > 0) release(shared_.value_empty[multiplied]);
      wait_for_products<0>();
      pin(scores_);
      soften(stage);
      pin(weights_);
      release(shared_.key_empty[stage]);
      shared_.value_full[stage].wait(ring_.phase);
      this->begin_sums(grad_value_, weights_, shared_.value[stage]);
      multiplied = stage;
      ring_.advance();
    }
    wait_for_products<0>();
    pin(grad_value_);
    release(shared_.value_empty[multiplied]);
  }

 protected:
  /// The first of the two columns of each eight that this thread holds.
  __device__ int column(int eight) const { return 8 * eight + 2 * (lane_ % 4); }

  /// Scores become weights.
  __device__ void soften(int stage) {
    const float scale = p_.sign * p_.log2_scale;
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
      float2 bias = load_shared_pair(shared_address(&shared_.statistics[stage].of_weight[column(j)]));
      if constexpr (!Config::kSumsQueries) bias = {fmaf(bias.x, -kLog2E, kShift), fmaf(bias.y, -kLog2E, kShift)};
#pragma unroll
      for (int s = 4 * j; s < 4 * j + 4; s += 2) {
        scores_[s] = exp2_approximate(fmaf(scores_[s], scale, bias.x));
        scores_[s + 1] = exp2_approximate(fmaf(scores_[s + 1], scale, bias.y));
      }
    }
    take_weights();
  }

  /// Of those that a row does not see none is left; rounded, they are operands.
  __device__ void take_weights() {
    if (TileNote::touched(what_)) {
#pragma unroll
      for (int s = 0; s < kScores; ++s) {
        if (!this->sees(s)) scores_[s] = 0;
      }
    }
#pragma unroll
    for (int s = 0; s < kScores; s += 2) weights_[s / 2] = packed<Element>(scores_[s], scores_[s + 1]);
  }

  /// Weights become gradients of scores.
  __device__ void differentiate(int stage) {
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
      float2 bias = load_shared_pair(shared_address(&shared_.statistics[stage].of_gradient[column(j)]));
      if constexpr (!Config::kSumsQueries) bias = {bias.x * -kUnshifted, bias.y * -kUnshifted};
#pragma unroll
      for (int s = 4 * j; s < 4 * j + 4; s += 2) {
        float2 weights{scores_[s], scores_[s + 1]};
        if constexpr (!kKeepsWeights) weights = unpacked<Element>(weights_[s / 2]);
        grad_scores_[s / 2] = packed<Element>(weights.x * fmaf(grad_weights_[s], kUnshifted, bias.x),
                                              weights.y * fmaf(grad_weights_[s + 1], kUnshifted, bias.y));
      }
    }
  }

  float scores_[kScores];
  float grad_weights_[kScores];         // this, and what follows from it, not where dV is computed alone
  std::uint32_t weights_[kScores / 2];  // and grad_scores_: operands of products
  std::uint32_t grad_scores_[kScores / 2];
  float grad_key_[kSums];
  float grad_value_[kSums];
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
