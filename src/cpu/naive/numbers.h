#pragma once

// What the naive kernels are written in: rows of float (of double in fp64 problems), whatever the dtype of a tensor.

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/elements.h"
#include "core/formats.h"
#include "core/view.h"
#include "cpu/parallel.h"
#include "vicinal/problem.h"

namespace vicinal::cpu {

/// Calls visit(T{}) with the type in which problems of a dtype are computed.
template <class Visit>
void with_number_type(DType dtype, Visit visit) {
  if (dtype == DType::fp64) {
    visit(double{});
  } else {
    visit(float{});
  }
}

/// Bytes of one such number.
constexpr std::size_t number_bytes(DType dtype) { return dtype == DType::fp64 ? sizeof(double) : sizeof(float); }

/// Whether numbers have to be converted before they can be computed with.
constexpr bool is_narrow(DType dtype) { return dtype == DType::fp16 || dtype == DType::bf16; }

template <class T>
T read_number(const void* data, DType dtype, std::int64_t offset) {
  return with_format(dtype, [&]<class Format>(Format) {
    return static_cast<T>(Format::decode(static_cast<const typename Format::Storage*>(data)[offset]));
  });
}

template <class T>
T dot(const T* a, const T* b, std::int64_t count) {
  T sum{};
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

template <class T>
void add_scaled(T* sum, T factor, const T* row, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) sum[i] += factor * row[i];
}

/// The extents of a tensor [batch, *axes, heads, row].
struct Extents {
  std::int64_t batch;
  PerAxis<std::int64_t> axes;
  std::int64_t heads;
  std::int64_t row;

  [[nodiscard]] std::int64_t rows() const { return batch * axes[0] * axes[1] * axes[2] * heads; }
};

/// A tensor over contiguous memory.
View dense_view(const Extents& extents, void* data, DType dtype);

/// A tensor in numbers: itself or, where it is narrow, a copy in `memory`, which then has room for all its elements.
View in_numbers(const View& view, const Extents& extents, void* memory, int threads);

/// Parts of a workspace, taken one after the other; without memory they are only counted.
class Parts {
 public:
  explicit Parts(void* memory) : memory_(static_cast<std::byte*>(memory)) {}

  /// Null where `bytes` is 0 or there is no memory.
  void* take(std::int64_t bytes) {
    if (bytes == 0) return nullptr;
    const std::size_t begin = taken_;
    taken_ += (static_cast<std::size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : memory_ + begin;
  }

  [[nodiscard]] std::size_t bytes() const { return taken_; }

 private:
  static constexpr std::size_t kAlignment = 64;

  std::byte* memory_;
  std::size_t taken_ = 0;
};

}  // namespace vicinal::cpu
