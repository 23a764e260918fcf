#pragma once

// Hopper's asynchronous instructions, one function each (PTX ISA 8.x: mbarrier, cp.async.bulk.tensor, setmaxnreg,
// cp.async, stmatrix). Addresses of shared memory are 32-bit ones of the shared window.

#include <cuda.h>

#include <cstdint>

/// Whether this is the pass of the compiler that makes code for Hopper or later.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define VICINAL_HOPPER_CODE 1
#else
#define VICINAL_HOPPER_CODE 0
#endif

namespace vicinal::cuda::sm90 {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// A barrier in shared memory that counts arrivals, and bytes that the copy engine brings. `phase` is the parity of the
/// phase waited for: waiting for phase 1 of a fresh barrier returns at once.
class Barrier {
 public:
  __device__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals) : "memory");
  }
  __device__ void arrive() { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory"); }
  /// At the barrier in the same place of a block of the cluster, this one or another.
  __device__ void arrive_in(int block) {
    asm volatile(
        "{\n"
        ".reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
        "}\n" ::"r"(address()),
        "r"(block)
        : "memory");
  }
  __device__ void arrive_expecting(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes) : "memory");
  }
  __device__ void wait(int phase) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(address()),
        "r"(phase)
        : "memory");
  }
  /// Whether the phase is over.
  __device__ bool test(int phase) {
    std::uint32_t over;
    asm volatile(
        "{\n"
        ".reg .pred over;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n"
        "}\n"
        : "=r"(over)
        : "r"(address()), "r"(phase)
        : "memory");
    return over != 0;
  }
  /// Arrives when what this thread has asked for by copy_16, copy_8 and copy_4 is there.
  __device__ void arrive_after_copies() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(address()) : "memory");
  }
  __device__ std::uint32_t address() const { return shared_address(&state_); }

 private:
  std::uint64_t state_;
};

/// Makes initialised barriers visible to the copy engine.
__device__ inline void fence_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// Orders this thread's ordinary accesses of shared memory before later ones of the copy engine and the tensor cores.
__device__ inline void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// True in one lane of a whole warp. Instructions of the copy engine take operands that all lanes share, so the
/// compiler runs them lane by lane in a loop unless it sees that only one is there.
__device__ inline bool elect_lane() {
  std::uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xFFFFFFFF;\nselp.u32 %0, 1, 0, p;\n}\n" : "=r"(elected)::"memory");
  return elected != 0;
}

/// One box of a tensor of rank 5 to shared memory; elements outside of the tensor arrive as zeros.
__device__ inline void load_box(const CUtensorMap& map, std::uint32_t to, const Barrier& barrier, int c0, int c1,
                                int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, "
      "%7}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier.address()), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

/// The same to the same place of both blocks of a cluster, and to their barriers.
__device__ inline void load_box_for_both(const CUtensorMap& map, std::uint32_t to, const Barrier& barrier, int c0,
                                         int c1, int c2, int c3, int c4) {
  constexpr std::uint16_t kBoth = 3;
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
      "{%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(to),
      "l"(&map), "r"(barrier.address()), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "h"(kBoth)
      : "memory");
}

/// Waits for all threads of the cluster that have not ended.
__device__ inline void await_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

/// One box of shared memory to a tensor of rank 5; what lies outside of the tensor is dropped.
__device__ inline void store_box(const CUtensorMap& map, std::uint32_t from, int c0, int c1, int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(&map),
      "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

/// Adds one box of floats in shared memory to a tensor of rank 5; what lies outside of the tensor is dropped.
__device__ inline void add_box(const CUtensorMap& map, std::uint32_t from, int c0, int c1, int c2, int c3, int c4) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.5d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(
          &map),
      "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}
/// The boxes that this thread has stored or added.
__device__ inline void close_boxes() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until shared memory is free of all but the last kOpen groups, and until all have arrived.
template <int kOpen>
__device__ inline void wait_for_reads_of_boxes() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kOpen) : "memory");
}
__device__ inline void wait_for_boxes() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// 16 bytes, or 8, or 4, of which the first `bytes` are read and the others are zero, without a register between.
__device__ inline void copy_16(std::uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void copy_8(std::uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void copy_4(std::uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kOpen>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kOpen) : "memory");
}

template <int kRegisters>
__device__ inline void give_registers_back() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// The same number, which the compiler takes for another each time: what depends on it is not computed far ahead, to
/// lie in registers all the while.
__device__ inline int computed_late(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
template <class T>
__device__ inline const T* computed_late(const T* x) {
  asm volatile("" : "+l"(x));
  return x;
}

/// threadIdx.x, likewise.
__device__ inline int thread_number_late() {
  int number;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
  return number;
}

__device__ inline float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ inline void store_shared(std::uint32_t to, std::uint32_t word) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}
__device__ inline void store_shared(std::uint32_t to, std::uint16_t half) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(half) : "memory");
}
__device__ inline void store_shared(std::uint32_t to, uint4 words) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(words.x), "r"(words.y), "r"(words.z),
               "r"(words.w)
               : "memory");
}
__device__ inline void store_shared(std::uint32_t to, float4 floats) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(floats.x), "f"(floats.y), "f"(floats.z),
               "f"(floats.w)
               : "memory");
}
/// 16 bytes of global memory, which the compiler would write word by word from an array.
__device__ inline void store_global(void* to, uint4 words) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words.x), "r"(words.y), "r"(words.z),
               "r"(words.w)
               : "memory");
}
__device__ inline void store_global(void* to, std::uint32_t word) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory");
}
__device__ inline void store_global(void* to, std::uint16_t half) {
  asm volatile("st.global.u16 [%0], %1;" ::"l"(to), "h"(half) : "memory");
}
/// Four 8 x 8 matrices of elements of 16 bits, as operands of products lie in registers; lane l gives the address of
/// row l % 8 of matrix l / 8.
__device__ inline void store_matrices(std::uint32_t to, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                      std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c),
               "r"(d)
               : "memory");
}
/// Two floats that follow each other.
__device__ inline float2 load_shared_pair(std::uint32_t from) {
  float2 pair;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(from) : "memory");
  return pair;
}
template <class Unit = std::uint32_t>
__device__ inline Unit load_shared(std::uint32_t from) {
  Unit unit;
  if constexpr (sizeof(Unit) == 4) {
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(unit) : "r"(from) : "memory");
  } else {
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(unit) : "r"(from) : "memory");
  }
  return unit;
}
__device__ inline uint4 load_shared_16(std::uint32_t from) {
  uint4 words;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "r"(from)
               : "memory");
  return words;
}

}  // namespace vicinal::cuda::sm90
