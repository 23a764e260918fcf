#pragma once

// A consumer warpgroup of the fused Hopper backward pass over queries: 64 rows of dQ.

#include "cuda/fused_sm90/consumer.cuh"

namespace vicinal::cuda::sm90 {

template <class Config>
class GradQueryConsumer;

#if VICINAL_HOPPER_CODE

/// For each key tile that passes by: P = exp(S - logsumexp) from S = Q K^T, dP = dO V^T, dS = P (dP - delta), and
/// dQ += scale dS K. Rows are written once, so results are the same in every run.
template <class Config>
class GradQueryConsumer : Consumer<Config> {
  using Base = Consumer<Config>;
  using Base::kScores, Base::kSums;
  using Base::p_, Base::shared_, Base::warpgroup_, Base::lane_, Base::row_ring_, Base::ring_;
  using Base::what_, Base::release;
  using typename Base::Element, typename Base::Place;

 public:
  __device__ GradQueryConsumer(const Parameters& p, SharedMemory<Config>& shared, int warpgroup)
      : Base(p, shared, warpgroup) {}

  __device__ void run() {
#pragma unroll 1
    while (true) {
      shared_.row_full[row_ring_.stage].wait(row_ring_.phase);
      const ItemNote& note = shared_.item[row_ring_.stage][warpgroup_];
      if (note.skipped_before < 0) return;
      const Place place = Base::place_of(note);
      const bool idle = note.attended == 0;
      begin(place);
#pragma unroll 1
      for (int extra = 0; extra < 2; ++extra) {
        this->skip(extra != 0 ? note.skipped_after : note.skipped_before);
        attend(extra != 0 ? note.extra : note.attended);
      }
      release(shared_.row_empty[row_ring_.stage]);
      row_ring_.advance();
      if (!idle) this->write_rows(place, 0, grad_query_, {p_.scale, p_.scale}, p_.dim);
    }
  }

 private:
  __device__ void begin(const Place& place) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = this->row(i);
      const bool is_query = Base::is_member(shared_.row_position[r], place.members);
      logsumexp_[i] = is_query ? static_cast<const float*>(p_.rows[1].data)[this->offset_of(place, 1, r)] * kLog2E : 0;
      float* const delta = static_cast<float*>(p_.rows[2].data) + this->offset_of(place, 2, r);
      if (Config::kMayMakeDelta && p_.makes_delta) {
        delta_[i] = delta_of(r);  // in rows without a token of zeros
        if (is_query && lane_ % 4 == 0) *delta = delta_[i];
      } else {
        delta_[i] = is_query ? *delta : 0;
      }
    }
#pragma unroll
    for (float& g : grad_query_) g = 0;
  }

  /// rowsum(dO O) of a row, which four lanes share: as delta.cu adds up, so that bits do not depend on who does.
  __device__ float delta_of(int row) const {
    constexpr int kPieces = Config::kDim / 8;  // of 16 bytes; behind the value dim they hold zeros
    float sum = 0;
    if constexpr (Config::kMayMakeDelta) {
      const auto& boxes = shared_.row[row_ring_.stage];
      const std::uint32_t gradient = shared_address(&boxes[1][warpgroup_][0][row][0]);
      const std::uint32_t output = shared_address(&boxes[2][warpgroup_][0][row][0]);
      static_assert(Config::kChunks == 1);
#pragma unroll
      for (int piece = 0; piece < kPieces; piece += 4) {
        const int at = ((piece + lane_ % 4) ^ row % 8) * 16;
        const uint4 o = load_shared_16(output + at);
        const uint4 g = load_shared_16(gradient + at);
        float part = 0;
        add_products(part, o.x, g.x);
        add_products(part, o.y, g.y);
        add_products(part, o.z, g.z);
        add_products(part, o.w, g.w);
        sum += part;
      }
#pragma unroll
      for (int distance = 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0U, sum, distance);
    }
    return sum;
  }
  __device__ static void add_products(float& sum, std::uint32_t a, std::uint32_t b) {
    const float2 left = unpacked<Element>(a);
    const float2 right = unpacked<Element>(b);
    sum += left.x * right.x;
    sum += left.y * right.y;
  }

  __device__ void attend(int count) {
    if (count == 0) return;
    int multiplied = 0;  // the stage of the keys of the last product
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      const int stage = ring_.stage;
      this->await_keys();
      this->begin_scores(scores_, 0, shared_.key[stage]);
      shared_.value_full[stage].wait(ring_.phase);
      this->begin_scores(grad_weights_, 1, shared_.value[stage]);
      this->find_visible(t == 0);
      wait_for_products<1>();
      pin(scores_);
      if (t > 0) release(shared_.key_empty[multiplied]);
      soften();
      wait_for_products<0>();
      pin(grad_weights_);
      release(shared_.value_empty[stage]);
#pragma unroll
      for (int s = 0; s < kScores; s += 2) {
        const float delta = delta_[s / 2 % 2];
        grad_scores_[s / 2] =
            packed<Element>(scores_[s] * (grad_weights_[s] - delta), scores_[s + 1] * (grad_weights_[s + 1] - delta));
      }
      this->begin_sums(grad_query_, grad_scores_, shared_.key[stage]);
      multiplied = stage;
      ring_.advance();
    }
    wait_for_products<0>();
    pin(grad_query_);
    release(shared_.key_empty[multiplied]);
  }

  /// Scores become weights, those that a row is not to see 0.
  __device__ void soften() {
    const float scale = p_.sign * p_.log2_scale;
#pragma unroll
    for (int s = 0; s < kScores; ++s) scores_[s] = exp2_approximate(fmaf(scores_[s], scale, -logsumexp_[s / 2 % 2]));
    if (!TileNote::touched(what_)) return;
#pragma unroll
    for (int s = 0; s < kScores; ++s) {
      if (!this->sees(s)) scores_[s] = 0;
    }
  }

  float logsumexp_[2];  // of each row, as a power of two
  float delta_[2];
  float scores_[kScores];
  float grad_weights_[kScores];
  std::uint32_t grad_scores_[kScores / 2];
  float grad_query_[kSums];
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
