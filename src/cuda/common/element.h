#pragma once

// Elements as kernels read and write them, one or 16 bytes at a time. Host and device: the same code is tested without
// a GPU.

#include <cstdint>

#include "core/half.h"
#include "core/window.h"
#include "vicinal/tensor.h"

namespace vicinal::cuda {

/// fp16 and bf16 in memory; arithmetic is in float.
struct Half {
  std::uint16_t bits;
};
struct Bfloat {
  std::uint16_t bits;
};

/// What sums of products of an element type are kept in, and which dtype it is.
template <class Element>
struct ElementTraits;
template <>
struct ElementTraits<double> {
  using Sum = double;
  static constexpr DType kDType = DType::fp64;
};
template <>
struct ElementTraits<float> {
  using Sum = float;
  static constexpr DType kDType = DType::fp32;
};
template <>
struct ElementTraits<Half> {
  using Sum = float;
  static constexpr DType kDType = DType::fp16;
};
template <>
struct ElementTraits<Bfloat> {
  using Sum = float;
  static constexpr DType kDType = DType::bf16;
};

template <class Element>
using SumOf = typename ElementTraits<Element>::Sum;

VICINAL_HOST_DEVICE inline double widened(double x) { return x; }
VICINAL_HOST_DEVICE inline float widened(float x) { return x; }

VICINAL_HOST_DEVICE inline float widened(Half x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
#else
  return Fp16::decode(x.bits);
#endif
}

VICINAL_HOST_DEVICE inline float widened(Bfloat x) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
#else
  return Bf16::decode(x.bits);
#endif
}

/// Rounds to nearest.
template <class Element>
VICINAL_HOST_DEVICE inline Element narrowed(SumOf<Element> x) {
  return x;
}

template <>
VICINAL_HOST_DEVICE inline Half narrowed<Half>(float x) {
  Half result{};
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
#else
  result.bits = Fp16::encode(x);
#endif
  return result;
}

template <>
VICINAL_HOST_DEVICE inline Bfloat narrowed<Bfloat>(float x) {
  Bfloat result{};
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
#else
  result.bits = Bf16::encode(x);
#endif
  return result;
}

/// Elements that move in one access.
template <class Element, int kCount>
struct alignas(kCount * sizeof(Element)) Pack {
  Element values[kCount];
};

inline constexpr int kAccessBytes = 16;

/// Elements of one access where alignment allows.
template <class Element>
inline constexpr int kWidth = kAccessBytes / static_cast<int>(sizeof(Element));

template <int kCount, class Element>
VICINAL_HOST_DEVICE inline Pack<Element, kCount> load(const Element* from) {
  return *reinterpret_cast<const Pack<Element, kCount>*>(from);
}

template <int kCount, class Element>
VICINAL_HOST_DEVICE inline void store(Element* to, const Pack<Element, kCount>& pack) {
  *reinterpret_cast<Pack<Element, kCount>*>(to) = pack;
}

}  // namespace vicinal::cuda
