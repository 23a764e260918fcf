#pragma once

// A tensor as kernels see it: rank 3, the head dim contiguous, one stride per remaining dimension.

#include <array>
#include <cstdint>

#include "vicinal/problem.h"
#include "vicinal/tensor.h"
#include "vicinal/unfused.h"

namespace vicinal {

/// A tensor [B, X, Y, Z, H, D] (or [B, X, Y, Z, H] for logsumexp, or [B, N, G, D] for extra tokens with the token
/// count on the Z axis). Strides are in elements and may be zero or negative; those of axes of extent 1 are 0.
struct View {
  void* data = nullptr;
  std::int64_t batch_stride = 0;
  std::array<std::int64_t, 3> axis_stride{};
  std::int64_t head_stride = 0;
  DType dtype = DType::fp32;

  explicit operator bool() const { return data != nullptr; }

  /// Elements from `data` to the token at coordinates (x, y, z) of batch entry b and head h.
  [[nodiscard]] std::int64_t offset(std::int64_t b, std::int64_t x, std::int64_t y, std::int64_t z,
                                    std::int64_t h) const {
    return b * batch_stride + x * axis_stride[0] + y * axis_stride[1] + z * axis_stride[2] + h * head_stride;
  }
};

/// Relative positional bias [H, 2*window-1 per axis], axes padded to rank 3. Strides in elements.
struct BiasView {
  void* data = nullptr;
  std::int64_t head_stride = 0;
  std::array<std::int64_t, 3> axis_stride{};
  DType dtype = DType::fp32;

  explicit operator bool() const { return data != nullptr; }
};

/// The tensors of a forward pass after validation; absent ones have no data.
struct ForwardViews {
  View query, key, value, extra_key, extra_value;
  View output, logsumexp;
};

/// The tensors of a backward pass after validation; absent ones have no data.
struct BackwardViews {
  View query, key, value, extra_key, extra_value;
  View output, logsumexp, grad_output, grad_logsumexp;
  View grad_query, grad_key, grad_value, grad_extra_key, grad_extra_value;
};

/// The tensors of the unfused operators after validation (include/vicinal/unfused.h); absent ones have no data. A
/// view of weights has its slots along the last dimension, contiguous.
struct PointwiseNeighborhoodViews {
  View query, key, extra_key;
  BiasView bias;
  View weights;
  MaskedScore masked = MaskedScore::minus_infinity;
};

struct NeighborhoodNeighborhoodViews {
  View weights, value, extra_value;
  View output;
};

struct InverseNeighborhoodViews {
  View weights, grad_output;
  View grad_value, grad_extra_value;
};

struct BiasGradientViews {
  View grad_weights;
  BiasView grad_bias;
};

}  // namespace vicinal
