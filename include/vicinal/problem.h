#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "vicinal/error.h"
#include "vicinal/export.h"
#include "vicinal/tensor.h"

namespace vicinal {

/// One value per axis of the token grid; the first `Problem::rank` entries count.
template <class T>
using PerAxis = std::array<T, 3>;

/// The most of `Problem::alignment`, in bytes: what the copy engine of GPUs asks for.
inline constexpr std::int64_t kMostAlignment = 16;

/// What is asked, independent of where the tensors lie but for a hint, `alignment`. Tensors are heads-last:
/// query [batch, *layout, heads, dim], key [batch, *layout, heads_kv, dim], value [batch, *layout, heads_kv, dim_v],
/// output [batch, *layout, heads, dim_v], logsumexp [batch, *layout, heads].
///
/// Along each axis of extent L, independently: dilation d splits the axis into d interleaved groups; inside its group
/// a token attends to the `window` tokens nearest to it, pushed inward at the borders; each run of `stride` tokens
/// shares the window of its leader; a causal axis keeps only the tokens at or before the query.
/// A key is attended when every axis agrees; `extra_kv` additional tokens are attended by every query.
/// Semantics: docs/semantics.md; Hassani, Hwu, Shi 2024 (arXiv 2403.04690), section 2.
struct Problem {
  int rank = 2;                             ///< axes of the token grid, 1 to 3
  std::int64_t batch = 1;                   ///< 0 is legal and computes nothing
  std::int64_t heads = 1;                   ///< query heads
  std::int64_t heads_kv = 1;                ///< key/value heads; divides `heads` (GQA, MQA)
  std::int64_t dim = 64;                    ///< head dim of query and key
  std::int64_t dim_v = 64;                  ///< head dim of value and output
  PerAxis<std::int64_t> layout{1, 1, 1};    ///< extents of the token grid
  PerAxis<std::int64_t> window{1, 1, 1};    ///< tokens; window * dilation <= extent
  PerAxis<std::int64_t> stride{1, 1, 1};    ///< tokens; 1 <= stride <= window
  PerAxis<std::int64_t> dilation{1, 1, 1};  ///< tokens, at least 1
  PerAxis<bool> causal{false, false, false};
  std::int64_t extra_kv = 0;    ///< additional key/value tokens seen by every query
  std::optional<double> scale;  ///< of the scores; dim^-0.5 when absent; 0 and negative are legal
  DType dtype = DType::fp32;    ///< of query, key, value, output and their gradients
  Device device{};
  /// Bytes: the largest power of two up to 16 at multiples of which the vectors of all tensors that are read begin, as
  /// far as addresses and strides go; 16 only where the copy engine of GPUs also takes the strides, which are not
  /// negative, shorter than 2^40 bytes, and within 2^31 elements from the first head to the last. A hint: kernels take
  /// any tensors whatever it says, but plans are better where it is right. As it is by default it is right for
  /// contiguous tensors, whose strides follow from the head dims; for others there is `alignment_of` (attention.h).
  std::int64_t alignment = kMostAlignment;

  friend bool operator==(const Problem&, const Problem&) = default;

  /// The scale that applies: `scale`, or dim^-0.5.
  [[nodiscard]] VICINAL_API double effective_scale() const;

  /// Tokens of the grid: the product of the extents.
  [[nodiscard]] VICINAL_API std::int64_t tokens() const;
};

/// Checks every rule above. The reason names the argument, its value and what is allowed.
VICINAL_API Status validate(const Problem& problem);

/// The same problem with leading axes of extent 1 until the rank is 3: what kernels and the planner work on.
VICINAL_API Problem padded_to_rank_3(const Problem& problem);

/// The problem in the words of the command line: `--layout 56x56 --window 7x7 --heads 2 --dim 32 --dtype fp16`.
VICINAL_API std::string to_string(const Problem& problem);

}  // namespace vicinal
