#pragma once

// The naive CUDA kernels run by loops on the CPU: their code is host and device, so that all of it but the launches is
// tested on machines without a GPU. Threads of a team become one; the blocks of tiled kernels keep theirs.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/parallel.h"
#include "cuda/naive/dispatch.h"
#include "cuda/naive/launch_sums.h"
#include "cuda/naive/launch_weights.h"

namespace vicinal::cuda::naive {

/// A team of one.
struct Alone {
  [[nodiscard]] static int rank() { return 0; }
  [[nodiscard]] static int size() { return 1; }
  template <class T>
  static T sum(T x) {
    return x;
  }
  template <class T>
  static T max(T x) {
    return x;
  }
};

class HostExecutor {
 public:
  HostExecutor(const Problem&, void*) {}

  template <class Work>
  void run(const char*, const Work& work) const {
    using Index = typename Work::Index;
    constexpr std::int64_t kItems = 256;  // of one piece of work
    cpu::parallel_for(ceil_div(work.items, kItems), 0, [&](std::int64_t piece, int) {
      const std::int64_t end = std::min<std::int64_t>((piece + 1) * kItems, work.items);
      for (std::int64_t i = piece * kItems; i < end; ++i) {
        if constexpr (Work::kTeam == Team::thread) {
          work(static_cast<Index>(i));
        } else {
          work(static_cast<Index>(i), Alone());
        }
      }
    });
  }

  template <class Work>
  void run_tiles(const char*, const Work& work) const {
    constexpr int kThreads = 8;
    struct alignas(16) Access {
      std::byte bytes[16];
    };
    cpu::parallel_for(work.items, 0, [&](std::int64_t item, int) {
      std::vector<Access> memory(static_cast<std::size_t>(work.shared_bytes) / sizeof(Access));
      for (Access& access : memory) std::fill(std::begin(access.bytes), std::end(access.bytes), std::byte{0xff});
      auto* shared = reinterpret_cast<typename Work::Element*>(memory.data());
      const auto tile = work.tile_at(static_cast<typename Work::Index>(item));
      if (tile.empty()) return;
      for (int thread = 0; thread < kThreads; ++thread) work.copy(tile, thread, kThreads, shared);
      for (int thread = 0; thread < kThreads; ++thread) work.compute(tile, thread, kThreads, shared);
    });
  }
};

inline const Operators& host_operators(DType dtype) { return operators_of<HostExecutor>(dtype); }

}  // namespace vicinal::cuda::naive
