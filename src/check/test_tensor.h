#pragma once

// A tensor whose memory is poison (NaN, as every dtype reads 0xff bytes) before, between and after its elements.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "check/case.h"
#include "vicinal/tensor.h"

namespace vicinal::check {

/// What one tensor is: [outer..., row], or [outer...] where `row` is 0. The first outer dimension is the batch, the
/// last one heads.
struct Shape {
  std::vector<std::int64_t> outer;
  std::int64_t row = 0;

  [[nodiscard]] std::int64_t rows() const;
  [[nodiscard]] std::int64_t row_elements() const { return row > 0 ? row : 1; }
  [[nodiscard]] std::int64_t elements() const { return rows() * row_elements(); }
};

class TestTensor {
 public:
  /// Absent.
  TestTensor() = default;
  /// All poison, elements included.
  TestTensor(const Shape& shape, DType dtype, const Arrangement& arrangement);

  [[nodiscard]] bool present() const { return !strides_.empty(); }
  [[nodiscard]] Tensor tensor();

  /// Elements in the order of the dimensions, whatever the memory; an absent tensor has none.
  /// Values are rounded to the dtype; under a zero stride the last one stays.
  void store(std::span<const double> values);
  [[nodiscard]] std::vector<double> load() const;

  /// Everything that is no element still is poison.
  [[nodiscard]] bool surroundings_intact() const;

  /// The whole memory, surroundings included.
  [[nodiscard]] const std::vector<std::byte>& memory() const { return memory_; }
  [[nodiscard]] std::vector<std::byte>& memory() { return memory_; }

 private:
  [[nodiscard]] std::vector<std::int64_t> row_offsets() const;

  Shape shape_;
  DType dtype_ = DType::fp32;
  std::vector<std::int64_t> strides_;  // of the outer dimensions, in elements
  std::int64_t origin_ = 0;            // element of `memory_` with all indices 0
  std::vector<std::byte> memory_;
};

}  // namespace vicinal::check
