#pragma once

// The producer of the fused Hopper forward kernel: it fills shared memory with tiles.

#include "cuda/fused_sm90/forward_block.cuh"
#include "cuda/fused_sm90/forward_parameters.h"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

/// Which rows of which head a tile holds.
struct TileOrigin {
  int batch;
  int head;
  int token[3];  ///< of the tile's first position
  int step[3];   ///< tokens between positions
};

/// Fills tiles: the warps of the producer warpgroup.
template <class Config>
class Producer {
  using Element = typename Config::Element;

 public:
  __device__ Producer(const ForwardParameters& p, SharedMemory<Config>& shared)
      : p_(p), shared_(shared), thread_(static_cast<int>(threadIdx.x) - Config::kConsumers) {}

  __device__ void run() {
    if (p_.by_copy_engine && thread_ >= 32) return;
    RingPosition<Config::kQueries> query_ring;
    RingPosition<Config::kStages> ring;
    const TiledGrid& grid = p_.grid;
    for (int i = static_cast<int>(blockIdx.x); i < grid.items; i += static_cast<int>(gridDim.x)) {
      const WorkItem item(grid, i);
      AxisShare axes[3];
      find_axes(grid, item, 0, axes);
      const Share share(grid, axes);
      if (share.total == 0) continue;

      produce_queries(item, query_ring);
      query_ring.advance();
      const int kv_head = item.head / grid.heads_per_kv;
      KeyTileCursor cursor{};
      for (int t = share.extra; t < share.total; ++t, cursor.next(share.count[0], share.count[1])) {
        TileOrigin origin{item.batch, kv_head, {}, {}};
        for (int a = 0; a < 3; ++a) {
          const TiledAxis& axis = grid.axes[a];
          origin.step[a] = axis.dilation;
          origin.token[a] =
              item.group[a] + axis.dilation * (axes[a].halo_begin + cursor.along(grid, a) * axis.key_tile);
        }
        produce_keys(p_.key, p_.value, origin, false, ring);
        ring.advance();
      }
      for (int t = 0; t < share.extra; ++t) {
        const TileOrigin origin{item.batch, kv_head, {0, 0, t * grid.keys.volume}, {1, 1, 1}};
        produce_keys(p_.extra_key, p_.extra_value, origin, true, ring);
        ring.advance();
      }
      flush();
    }
  }

 private:
  __device__ void produce_queries(const WorkItem& item, const RingPosition<Config::kQueries>& at) {
    shared_.query_empty[at.stage].wait(at.phase ^ 1);
    Barrier& full = shared_.query_full[at.stage];
    expect(full, Config::kWarpgroups * p_.grid.queries.volume * p_.dim);
    for (int w = 0; w < Config::kWarpgroups; ++w) {
      TileOrigin origin{item.batch, item.head, {}, {}};
      for (int a = 0; a < 3; ++a) {
        const TiledAxis& axis = p_.grid.axes[a];
        const int first = item.origin[a] + (a == p_.grid.split_axis ? w * axis.query_box : 0);
        origin.step[a] = axis.dilation;
        origin.token[a] = item.group[a] + axis.dilation * first;
      }
      fill(p_.query, p_.dim, p_.grid.queries, shared_.query_position, origin, shared_.query[at.stage][w], full);
    }
    publish(full);
  }

  __device__ void produce_keys(const Source& keys, const Source& values, const TileOrigin& origin, bool extra,
                               const RingPosition<Config::kStages>& at) {
    TileShape shape = p_.grid.keys;
    if (extra) {
      shape.extent[0] = shape.extent[1] = 1;
      shape.extent[2] = shape.volume;
      for (int a = 0; a < 3; ++a) {
        shape.box[a] = shape.extent[a];
        shape.row_stride[a] = a == 2 ? 1 : shape.volume;
      }
    }
    const PackedPosition* positions = extra ? nullptr : shared_.key_position;
    // A loop, so that the code is there once.
#pragma unroll 1
    for (int i = 0; i < 2; ++i) {
      Barrier& full = i == 0 ? shared_.key_full[at.stage] : shared_.value_full[at.stage];
      Barrier& empty = i == 0 ? shared_.key_empty[at.stage] : shared_.value_empty[at.stage];
      const int dim = i == 0 ? p_.dim : p_.dim_v;
      empty.wait(at.phase ^ 1);
      expect(full, shape.volume * dim);
      fill(i == 0 ? keys : values, dim, shape, positions, origin,
           i == 0 ? shared_.key[at.stage] : shared_.value[at.stage], full);
      publish(full);
    }
  }

  __device__ void expect(Barrier& full, int elements) {
    if (!p_.by_copy_engine) return;
    if (thread_ == 0) full.arrive_expecting(elements * static_cast<int>(sizeof(Element)));
    __syncwarp();
  }

  template <int kRows>
  __device__ void fill(const Source& from, int dim, const TileShape& shape, const PackedPosition* positions,
                       const TileOrigin& origin, std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier& full) {
    if (p_.by_copy_engine) {
      fill_by_copy_engine(from, dim, shape, origin, to, full);
    } else {
      fill_by_threads(from.view, dim, shape, positions, origin, to);
    }
  }

  template <int kRows>
  __device__ void fill_by_copy_engine(const Source& from, int dim, const TileShape& shape, const TileOrigin& origin,
                                      std::uint8_t (&to)[Config::kChunks][kRows][128], Barrier& full) {
    const int chunks = (dim + kChunk - 1) / kChunk;
    const int rest = dim % kChunk;
    const int column = origin.head * static_cast<int>(from.view.head_stride);
    const int copies = shape.copies();
    for (int i = thread_; i < copies * chunks; i += 32) {
      const int copy = i / chunks;
      const int chunk = i - copy * chunks;
      int walked[3] = {0, 0, 0};
      if (copies > 1) {
        int n = copy;
        for (int a = 2; a >= 0; --a) {
          if (shape.box[a] == shape.extent[a]) continue;
          walked[a] = n % shape.extent[a];
          n /= shape.extent[a];
        }
      }
      int row = 0;
      int token[3];
      for (int a = 0; a < 3; ++a) {
        row += walked[a] * shape.row_stride[a];
        token[a] = origin.token[a] + walked[a] * origin.step[a];
      }
      const bool last = rest != 0 && chunk == chunks - 1;
      load_box(last ? from.rest : from.full, shared_address(&to[chunk][row][0]), full, column + chunk * kChunk,
               token[2], token[1], token[0], origin.batch);
    }
  }

  template <int kRows>
  __device__ void fill_by_threads(const View& from, int dim, const TileShape& shape, const PackedPosition* positions,
                                  const TileOrigin& origin, std::uint8_t (&to)[Config::kChunks][kRows][128]) {
    constexpr int kWidth = 8;
    const int extra_tokens = p_.grid.extra_kv;
    const int pieces = (dim + kWidth - 1) / kWidth;
    const auto* data = static_cast<const Element*>(from.data);
    for (int i = thread_; i < shape.volume * pieces; i += Config::kProducers) {
      const int row = i / pieces;
      const int piece = i - row * pieces;
      int token[3] = {0, 0, origin.token[2] + row};
      bool exists = token[2] < extra_tokens;
      if (positions != nullptr) {
        exists = true;
        for (int a = 0; a < 3; ++a) {
          token[a] = origin.token[a] + positions[row].along(a) * origin.step[a];
          exists = exists && token[a] < p_.grid.axes[a].extent;
        }
      }
      const std::uint32_t at = shared_address(&to[piece / 8][row][((piece ^ row) % 8) * 16]);
      const int elements = exists ? smaller(kWidth, dim - piece * kWidth) : 0;
      const Element* source = data;
      if (exists) source += token_offset(from, origin.batch, token, origin.head) + piece * kWidth;
      if (p_.wide_copies) {
        copy_16(at, source, elements * static_cast<int>(sizeof(Element)));
      } else {
        std::uint32_t words[4] = {0, 0, 0, 0};
        for (int e = 0; e < kWidth; ++e) {
          if (e < elements) words[e / 2] |= static_cast<std::uint32_t>(source[e].bits) << (e % 2 * 16);
        }
        store_shared(at, uint4{words[0], words[1], words[2], words[3]});
      }
    }
  }

  /// Threads' copies arrive late: a tile is announced when the next one is on its way.
  __device__ void publish(Barrier& full) {
    if (p_.by_copy_engine) return;
    close_copies();
    if (pending_ != nullptr) {
      wait_for_copies<1>();
      fence_async_proxy();
      pending_->arrive();
    }
    pending_ = &full;
  }

  __device__ void flush() {
    if (pending_ == nullptr) return;
    wait_for_copies<0>();
    fence_async_proxy();
    pending_->arrive();
    pending_ = nullptr;
  }

  const ForwardParameters& p_;
  SharedMemory<Config>& shared_;
  int thread_;
  Barrier* pending_ = nullptr;
};

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
