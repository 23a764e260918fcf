#pragma once

// A consumer warpgroup of the fused Hopper backward pass over keys that computes all gradients: 64 rows of dK and dV,
// and what each tile of queries gets from the keys of all warpgroups, which is added to sums of dQ in memory.

#include "cuda/fused_sm90/grad_key_value_consumer.cuh"

namespace vicinal::cuda::sm90 {

template <class Config>
class GradientsConsumer;

#if VICINAL_HOPPER_CODE

/// As GradKeyValueConsumer, with a fifth product: dQ = dS K, from dS^T of all warpgroups in shared memory and from
/// their rows. It is cut into blocks of 64 queries x 64 elements, one for each warpgroup. A block is copied to shared
/// memory and from there, when the producer sees that all have given the tile back, added to the sums by the copy
/// engine, in whichever order tiles come: results differ in their last bits from run to run.
///
/// Warpgroups meet once for each tile, when their dS^T is there, and lay down the next when both have multiplied. Those
/// that do not need a tile take part with zeros.
template <class Config>
class GradientsConsumer : GradKeyValueConsumer<Config> {
  using Base = GradKeyValueConsumer<Config>;
  using Base::kScores;
  using Base::p_, Base::shared_, Base::warpgroup_, Base::lane_, Base::row_ring_, Base::ring_;
  using Base::release;
  using Base::scores_, Base::grad_weights_, Base::weights_, Base::grad_scores_, Base::grad_key_, Base::grad_value_;
  using typename Base::Element;

  static constexpr int kBlock = kChunk;  // queries, and elements of the head dim, of a warpgroup's block of dQ
  static constexpr int kBlocksOfQueries = Config::kColumns / kBlock;
  static_assert(kBlocksOfQueries * Config::kChunks == Config::kWarpgroups);
  static_assert(Config::kStages == 2 && Config::kValueLag == 0);  // one ring; the places of dS^T and dQ count on it
  static constexpr int kSumChunksOfBlock = kBlock / kSumChunk;

 public:
  __device__ GradientsConsumer(const Parameters& p, SharedMemory<Config>& shared, int warpgroup)
      : Base(p, shared, warpgroup) {}

  __device__ void run() {
    this->keep_rows([this](int count) { assist(count); }, [this](int count) { attend(count); });
  }

 private:
  /// The warpgroup's block of dQ. The compiler puts it where scores were by itself only if those are more; where they
  /// are as many it has to be told, or registers do not suffice.
  __device__ float (&grad_query()) [kBlock / 2] {
    if constexpr (kScores == kBlock / 2) {
      return scores_;
    } else {
      return grad_query_;
    }
  }

  __device__ int query_block() const {
    return kBlocksOfQueries > 1 ? warpgroup_ : 0;
  }
  __device__ int dim_block() const { return kBlocksOfQueries > 1 ? 0 : warpgroup_; }

  __device__ void attend(int count) {
    if (count == 0) return;
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      const int stage =
          __shfl_sync(~0U, ring_.stage, 0);  // of keys and values; so the compiler sees that lanes share it
      warpgroup_ = computed_late(warpgroup_);
      this->await_keys();
      this->begin_scores(scores_, 0, shared_.key[stage]);
      wait_for_products<1>();  // of the dK before, whose operand makes way
      pin(grad_key_);
      if (t > 0) release(shared_.key_empty[stage ^ 1]);
      shared_.value_full[stage].wait(ring_.phase);
      this->begin_scores(grad_weights_, 1, shared_.value[stage]);
      this->find_visible(t == 0);
      wait_for_products<1>();
      pin(scores_);
      this->soften(stage);
      pin(weights_);
      this->begin_sums(grad_value_, weights_, shared_.value[stage]);
      wait_for_products<1>();
      pin(grad_weights_);
      this->differentiate(stage);
      share_grad_scores(stage);
      wait_for_products<0>();  // of dV, whose operand's registers dQ takes
      pin(grad_value_);
      release(shared_.value_empty[stage]);
      begin_grad_query();
      pin(grad_scores_);
      this->begin_sums(grad_key_, grad_scores_, shared_.key[stage]);
      wait_for_products<1>();
      pin(grad_query());
      lay_out_grad_query(stage);
      ring_.advance();
    }
    wait_for_products<0>();
    pin(grad_key_);
    release(shared_.key_empty[ring_.stage ^ 1]);
    await_scores_read();
  }

  /// Takes part in tiles that none of the warpgroup's rows see.
  __device__ void assist(int count) {
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      const int stage = ring_.stage;
      warpgroup_ = computed_late(warpgroup_);
      shared_.key_full[stage].wait(ring_.phase);
#pragma unroll
      for (std::uint32_t& pair : grad_scores_) pair = 0;
      share_grad_scores(stage);
      begin_grad_query();
      wait_for_products<0>();
      pin(grad_query());
      lay_out_grad_query(stage);
      release(shared_.key_empty[stage]);
      shared_.value_full[stage].wait(ring_.phase);
      release(shared_.value_empty[stage]);
      ring_.advance();
    }
    if (count > 0) await_scores_read();
  }

  /// Waits until all have multiplied by dS^T of the tile before: its place is free, for the next or for rows on their
  /// way out.
  __device__ void await_scores_read() const {
    const int before = ring_.stage ^ 1;
    shared_.query_gradients.scores_read[before].wait(ring_.phase ^ before);
  }

  /// Lays dS^T where all warpgroups find it, and waits for theirs.
  __device__ void share_grad_scores(int stage) {
    const auto lane = static_cast<unsigned>(computed_late(lane_));
    const unsigned row = static_cast<unsigned>(warp_) * 16 + lane % 16;
    const unsigned piece = lane / 16;
    await_scores_read();
#pragma unroll
    for (int chunk = 0; chunk < kBlocksOfQueries; ++chunk) {
      const std::uint32_t to = shared_address(&shared_.output[chunk][warpgroup_][row][(piece ^ row % 8) * 16]);
#pragma unroll
      for (unsigned pieces = 0; pieces < kChunk / 8; pieces += 2) {
        const std::uint32_t* scores = grad_scores_ + 2 * (8 * chunk + pieces);
        store_matrices(to ^ pieces * 16, scores[0], scores[1], scores[2], scores[3]);
      }
    }
    fence_async_proxy();
    // Not by bar.sync: warpgroups come here from different places in the code.
    __syncwarp();
    release(shared_.query_gradients.scores_laid[stage]);
    shared_.query_gradients.scores_laid[stage].wait(ring_.phase);
  }

  __device__ void begin_grad_query() {
    const std::uint64_t scores = tile_descriptor(shared_address(&shared_.output[query_block()]), 1024, 0);
    const std::uint64_t rows =
        tile_descriptor(shared_address(&shared_.row[row_ring_.stage][0][0][dim_block()]), 1024, 0);
    constexpr int kStepsOfBox = kWarpgroupRows / Base::kDepth;
    constexpr int kStepBytes = Base::kDepth * 128;
    pin(grad_query());
    open_products();
#pragma unroll
    for (int k = 0; k < Config::kWarpgroups * kStepsOfBox; ++k) {
      const int box = k / kStepsOfBox;
      const int step = k % kStepsOfBox;
      Wgmma<kBlock>::template multiply_by_depth<Element>(
          grad_query(), advanced(scores, k * kStepBytes),
          advanced(rows, box * static_cast<int>(sizeof(typename SharedMemory<Config>::RowBox)) + step * kStepBytes),
          k > 0);
    }
    close_products();
  }

  /// Lays the block of dQ out for the copy engine, when that has read those of two tiles before.
  ///
  /// A thread's sums are 32 bits of rows of 16 bytes, as the matrices are that an instruction stores: of 8 elements the
  /// even ones come first (workspace_views.h).
  __device__ void lay_out_grad_query(int stage) {
    release(shared_.query_gradients.scores_read[stage]);
    // Said of stages in turn, beginning with the second, where nothing was before the first tile.
    shared_.query_gradients.sums_read[stage].wait(ring_.phase ^ stage ^ 1);
    const auto lane = static_cast<unsigned>(computed_late(lane_));
    const unsigned row = static_cast<unsigned>(query_block() * kBlock + warp_ * 16) + lane / 16 * 8 + lane % 8;
    const unsigned byte = (lane / 8 % 2 ^ lane % 8) * 16;
    const std::uint32_t to =
        shared_address(&shared_.query_gradients.sums[stage][dim_block() * kSumChunksOfBlock][row][byte]);
#pragma unroll
    for (int j = 0; j < kBlock / 8; ++j) {
      const float* sums = grad_query() + 4 * j;
      constexpr int kEights = kSumChunk / 8;
      store_matrices((to ^ j % kEights * 32) + j / kEights * Config::kColumns * 128, __float_as_uint(sums[0]),
                     __float_as_uint(sums[1]), __float_as_uint(sums[2]), __float_as_uint(sums[3]));
    }
    fence_async_proxy();
    __syncwarp();
  }

  int warp_ = Base::warp();  // kept, as every tile asks for it
  float grad_query_[kBlock / 2];
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
