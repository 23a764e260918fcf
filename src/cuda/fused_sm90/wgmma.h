#pragma once

// Hopper's matrix product of a warpgroup (PTX ISA 8.x, wgmma): 64 rows x kColumns, 16 deep, float sums in registers.
//
// Sum (r, c) of thread t = 32 w + l lies in register 4 (c / 8) + 2 (r / 8 % 2) + c % 2, where r = 16 w + 8 i + l / 4
// and c = 8 j + 2 (l % 4) + {0, 1}; an operand in registers has the same layout, two elements a register, so what one
// product computes can be multiplied by the next.
//
// Operands in shared memory are tiles of rows of 128 bytes with the 128-byte swizzle: 16-byte piece p of row r lies at
// piece p ^ (r % 8). Tiles start at multiples of 1024 bytes. The operands of inline assembly are numbered by hand,
// hence the macros.

#include <cstdint>

#include "cuda/common/element.h"
#include "cuda/fused_sm90/ptx.h"

namespace vicinal::cuda::sm90 {

#if VICINAL_HOPPER_CODE

// clang-format off
#define VICINAL_NAMES_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define VICINAL_NAMES_1 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define VICINAL_NAMES_2 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define VICINAL_NAMES_3 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define VICINAL_NAMES_4 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define VICINAL_NAMES_5 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define VICINAL_NAMES_6 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define VICINAL_NAMES_7 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define VICINAL_SUMS_8(s, i) \
  "+f"((s)[(i)]), "+f"((s)[(i) + 1]), "+f"((s)[(i) + 2]), "+f"((s)[(i) + 3]), \
  "+f"((s)[(i) + 4]), "+f"((s)[(i) + 5]), "+f"((s)[(i) + 6]), "+f"((s)[(i) + 7])
#define VICINAL_SUMS_16_FROM(s, i) VICINAL_SUMS_8(s, i), VICINAL_SUMS_8(s, (i) + 8)

#define VICINAL_SUMS_16(s) VICINAL_SUMS_16_FROM(s, 0)
#define VICINAL_SUMS_32(s) VICINAL_SUMS_16_FROM(s, 0), VICINAL_SUMS_16_FROM(s, 16)
#define VICINAL_SUMS_48(s) VICINAL_SUMS_16_FROM(s, 0), VICINAL_SUMS_16_FROM(s, 16), VICINAL_SUMS_16_FROM(s, 32)
#define VICINAL_SUMS_64(s) VICINAL_SUMS_16_FROM(s, 0), VICINAL_SUMS_16_FROM(s, 16), VICINAL_SUMS_16_FROM(s, 32), VICINAL_SUMS_16_FROM(s, 48)
#define VICINAL_SUMS_96(s) VICINAL_SUMS_16_FROM(s, 0), VICINAL_SUMS_16_FROM(s, 16), VICINAL_SUMS_16_FROM(s, 32), VICINAL_SUMS_16_FROM(s, 48), VICINAL_SUMS_16_FROM(s, 64), VICINAL_SUMS_16_FROM(s, 80)
#define VICINAL_SUMS_128(s) VICINAL_SUMS_16_FROM(s, 0), VICINAL_SUMS_16_FROM(s, 16), VICINAL_SUMS_16_FROM(s, 32), VICINAL_SUMS_16_FROM(s, 48), VICINAL_SUMS_16_FROM(s, 64), VICINAL_SUMS_16_FROM(s, 80), VICINAL_SUMS_16_FROM(s, 96), VICINAL_SUMS_16_FROM(s, 112)

#define VICINAL_ALL_NAMES_16 VICINAL_NAMES_0
#define VICINAL_ALL_NAMES_32 VICINAL_NAMES_0 ", " VICINAL_NAMES_1
#define VICINAL_ALL_NAMES_48 VICINAL_NAMES_0 ", " VICINAL_NAMES_1 ", " VICINAL_NAMES_2
#define VICINAL_ALL_NAMES_64 VICINAL_NAMES_0 ", " VICINAL_NAMES_1 ", " VICINAL_NAMES_2 ", " VICINAL_NAMES_3
#define VICINAL_ALL_NAMES_96 VICINAL_NAMES_0 ", " VICINAL_NAMES_1 ", " VICINAL_NAMES_2 ", " VICINAL_NAMES_3 ", " VICINAL_NAMES_4 ", " VICINAL_NAMES_5
#define VICINAL_ALL_NAMES_128 VICINAL_NAMES_0 ", " VICINAL_NAMES_1 ", " VICINAL_NAMES_2 ", " VICINAL_NAMES_3 ", " VICINAL_NAMES_4 ", " VICINAL_NAMES_5 ", " VICINAL_NAMES_6 ", " VICINAL_NAMES_7
// clang-format on

/// Describes a tile to the tensor cores: where it starts, and the bytes between repetitions of its 8 x 128-byte pattern
/// along the rows (`row_step`) and, where rows are the depth of the product, across (`column_step`).
__device__ inline std::uint64_t tile_descriptor(std::uint32_t address, int row_step, int column_step) {
  constexpr std::uint64_t kSwizzle128 = 1;
  return (kSwizzle128 << 62) | (static_cast<std::uint64_t>(row_step >> 4) << 32) |
         (static_cast<std::uint64_t>(column_step >> 4) << 16) | ((address & 0x3FFFF) >> 4);
}

/// The same tile, `bytes` further on. The address is in the low word, to which a sum without carry costs least.
__device__ inline std::uint64_t advanced(std::uint64_t descriptor, int bytes) {
  const std::uint32_t low = static_cast<std::uint32_t>(descriptor) + static_cast<std::uint32_t>(bytes >> 4);
  return (descriptor >> 32 << 32) | low;
}

/// Products of kColumns columns.
template <int kColumns>
struct Wgmma;

#define VICINAL_WGMMA_SHARED(type, columns, count, transposed, a, b, c)                                             \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #c                                            \
               ", 0;\n"                                                                                             \
               "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " {" VICINAL_ALL_NAMES_##count \
               "}, %" #a ", %" #b ", accumulate, 1, 1, " transposed ";\n}\n"                                        \
               : VICINAL_SUMS_##count(s)                                                                            \
               : "l"(first), "l"(second), "r"(static_cast<int>(accumulate)))

#define VICINAL_WGMMA_REGISTERS(type, columns, count, a, b, c, d, e, f)                                             \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #f                                            \
               ", 0;\n"                                                                                             \
               "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " {" VICINAL_ALL_NAMES_##count \
               "}, {%" #a ", %" #b ", %" #c ", %" #d "}, %" #e ", accumulate, 1, 1, 1;\n}\n"                        \
               : VICINAL_SUMS_##count(s)                                                                            \
               : "r"(rows[0]), "r"(rows[1]), "r"(rows[2]), "r"(rows[3]), "l"(rows_by_depth),                        \
                 "r"(static_cast<int>(accumulates)))

#define VICINAL_WGMMA(columns, count, a, b, c, d, e, f)                                                              \
  template <>                                                                                                        \
  struct Wgmma<columns> {                                                                                            \
    /* sums (+)= first x second^T, both tiles with 16 elements of depth along their rows */                          \
    template <class Element>                                                                                         \
    __device__ static void multiply(float (&s)[count], std::uint64_t first, std::uint64_t second, bool accumulate) { \
      if constexpr (ElementTraits<Element>::kDType == DType::fp16) {                                                 \
        VICINAL_WGMMA_SHARED("f16", columns, count, "0, 0", a, b, c);                                                \
      } else {                                                                                                       \
        VICINAL_WGMMA_SHARED("bf16", columns, count, "0, 0", a, b, c);                                               \
      }                                                                                                              \
    }                                                                                                                \
    /* sums (+)= first^T x second, both tiles whose 16 rows are the depth */                                         \
    template <class Element>                                                                                         \
    __device__ static void multiply_by_depth(float (&s)[count], std::uint64_t first, std::uint64_t second,           \
                                             bool accumulate) {                                                      \
      if constexpr (ElementTraits<Element>::kDType == DType::fp16) {                                                 \
        VICINAL_WGMMA_SHARED("f16", columns, count, "1, 1", a, b, c);                                                \
      } else {                                                                                                       \
        VICINAL_WGMMA_SHARED("bf16", columns, count, "1, 1", a, b, c);                                               \
      }                                                                                                              \
    }                                                                                                                \
    /* sums (+)= rows (in registers) x a tile whose 16 rows are the depth */                                         \
    template <class Element>                                                                                         \
    __device__ static void accumulate(float (&s)[count], const std::uint32_t* rows, std::uint64_t rows_by_depth,     \
                                      bool accumulates) {                                                            \
      if constexpr (ElementTraits<Element>::kDType == DType::fp16) {                                                 \
        VICINAL_WGMMA_REGISTERS("f16", columns, count, a, b, c, d, e, f);                                            \
      } else {                                                                                                       \
        VICINAL_WGMMA_REGISTERS("bf16", columns, count, a, b, c, d, e, f);                                           \
      }                                                                                                              \
    }                                                                                                                \
  };

VICINAL_WGMMA(32, 16, 16, 17, 18, 19, 20, 21)
VICINAL_WGMMA(64, 32, 32, 33, 34, 35, 36, 37)
VICINAL_WGMMA(96, 48, 48, 49, 50, 51, 52, 53)
VICINAL_WGMMA(128, 64, 64, 65, 66, 67, 68, 69)
VICINAL_WGMMA(192, 96, 96, 97, 98, 99, 100, 101)
VICINAL_WGMMA(256, 128, 128, 129, 130, 131, 132, 133)

/// Before the first product after registers of one were written.
__device__ inline void open_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void close_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until at most kOpen groups of products are still running.
template <int kOpen>
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kOpen) : "memory");
}

/// The compiler must not move accesses of the sums across this.
template <int kCount>
__device__ inline void pin(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

/// Nor the making of operands in registers.
template <int kCount>
__device__ inline void pin(std::uint32_t (&operands)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(operands[i])::"memory");
}

#endif  // VICINAL_HOPPER_CODE

}  // namespace vicinal::cuda::sm90
