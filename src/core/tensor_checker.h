#pragma once

// What one tensor of an operation must look like, and the checks of the tensors of a call one after the other.

#include <array>
#include <cstdint>
#include <string_view>

#include "core/view.h"
#include "vicinal/error.h"
#include "vicinal/problem.h"
#include "vicinal/tensor.h"

namespace vicinal {

/// What one tensor must look like.
struct Expectation {
  enum class Shape : std::uint8_t {
    tokens,     ///< [batch, *layout, heads, row]
    extra,      ///< [batch, extra_kv, heads_kv, row]
    logsumexp,  ///< [batch, *layout, heads]
    bias,       ///< [heads, 2 * window - 1 per axis]
  };
  enum class Heads : std::uint8_t { query, key_value };
  enum class Row : std::uint8_t { none, dim, dim_v, slots };
  enum class Presence : std::uint8_t { required, optional, absent };
  enum class Access : std::uint8_t { read, written };

  std::string_view name;
  Shape shape = Shape::tokens;
  Heads heads = Heads::query;
  Row row = Row::dim;  ///< the last dimension, contiguous
  Presence presence = Presence::required;
  Access access = Access::read;
};

/// Checks tensors one after the other and remembers the first reason to refuse.
class TensorChecker {
 public:
  /// Keeps a reference to the problem, a valid one.
  explicit TensorChecker(const Problem& problem) : problem_(problem) {}

  /// The view of a tensor that is as expected; else an empty view, and the status says why.
  View view(const Expectation& expected, const Tensor& tensor);

  /// The same for a bias.
  BiasView bias_view(const Expectation& expected, const Tensor& tensor);

  [[nodiscard]] const Status& status() const { return status_; }

 private:
  struct Seen {
    std::string_view name;
    const void* data;
    bool written;
  };

  /// Whether there is a tensor and it, like all before, is as expected.
  bool accept(const Expectation& expected, const Tensor& tensor);

  [[nodiscard]] DType dtype_of(const Expectation& expected) const;
  [[nodiscard]] std::int64_t row_of(const Expectation& expected) const;
  [[nodiscard]] int shape_of(const Expectation& expected, std::array<std::int64_t, kMaxTensorRank>& sizes) const;
  [[nodiscard]] Status check(const Expectation& expected, const Tensor& tensor) const;
  [[nodiscard]] Status check_shape(const Expectation& expected, const Tensor& tensor) const;
  void remember(const Expectation& expected, const Tensor& tensor);

  static constexpr int kMostTensors = 14;  // of a backward pass

  const Problem& problem_;
  Status status_;
  std::array<Seen, kMostTensors> seen_{};
  int seen_count_ = 0;
};

}  // namespace vicinal
