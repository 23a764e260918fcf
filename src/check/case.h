#pragma once

// Seeded random problems, and how their tensors lie in memory.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "vicinal/problem.h"
#include "vicinal/unfused.h"

namespace vicinal::check {

/// How a tensor lies in memory. Whatever lies between its elements is poison.
struct Arrangement {
  bool heads_first = false;    ///< [B, H, *layout, D] in memory instead of [B, *layout, H, D]
  std::int64_t shift = 3;      ///< elements from an aligned address to the first one; 0 lets kernels load 16 bytes
  std::int64_t row_gap = 0;    ///< elements between two rows [D]
  std::int64_t token_gap = 0;  ///< rows between two tokens, as when query, key and value are packed
  unsigned reversed = 0;       ///< bit i: negative stride along dimension i (CPU only)
  unsigned broadcast = 0;      ///< bit i: zero stride along dimension i (inputs only)
};

/// What is checked: a problem, the values of its tensors (by seed) and their memory.
struct Case {
  Problem problem;
  std::uint64_t seed = 0;            ///< of the values and of the tilings that are tried
  double query_magnitude = 1;        ///< queries are uniform in [-magnitude, magnitude], all else in [-1, 1]
  bool with_optional_inputs = true;  ///< whether the gradient of logsumexp (backward) and the bias (PN) are given
  MaskedScore masked = MaskedScore::minus_infinity;  ///< PN: what masked slots become
  int gpu_runs = 2;  ///< that are to give the same bits, or results as good; every other one on few multiprocessors
  std::array<Arrangement, 4> inputs{};   ///< of query, key, value, grad_output
  std::array<Arrangement, 4> results{};  ///< of output, grad_query, grad_key, grad_value

  /// All tensors alike.
  void arrange(const Arrangement& arrangement) {
    inputs.fill(arrangement);
    results.fill(arrangement);
  }
};

/// A reproducible sequence of random cases: odd and even windows, window 1 and full, ragged extents, dilation that does
/// not divide, stride, every causal combination, GQA, extra tokens, head dims from 1 to 512, every dtype and memory.
struct Sweep {
  std::uint64_t seed = 0;
  double size = 1;  ///< scales the work of each case; below 1 for slow builds (sanitizers)
};

/// Case `number` of the sweep, independent of all others.
Case random_case(const Sweep& sweep, std::int64_t number);

/// The command that runs this one case on one kernel: `vicinal check --seed 7 --case 12 --kernel fused_cpu_forward`.
std::string reproducing_command(const Sweep& sweep, std::int64_t number, std::string_view kernel);

}  // namespace vicinal::check
