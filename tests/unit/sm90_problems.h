#pragma once

// Random small problems for the tests of the Hopper kernels' tiles.

#include <algorithm>
#include <cstdint>

#include <gtest/gtest.h>

#include "check/random.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

inline Problem random_problem(check::Random& random) {
  Problem p;
  p.rank = static_cast<int>(random.between(1, 3));
  const std::int64_t longest = p.rank == 1 ? 150 : p.rank == 2 ? 24 : 11;
  for (int a = 0; a < p.rank; ++a) {
    p.layout[a] = random.between(1, longest);
    p.dilation[a] = random.chance(0.6) ? 1 : random.between(1, std::min<std::int64_t>(12, p.layout[a]));
    p.window[a] = random.between(1, p.layout[a] / p.dilation[a]);
    p.stride[a] = random.between(1, p.window[a]);
    p.causal[a] = random.chance(0.4);
  }
  p.heads = random.between(1, 2);
  p.extra_kv = random.chance(0.5) ? 0 : random.between(1, 150);
  p.dtype = DType::fp16;
  EXPECT_TRUE(validate(p).ok()) << validate(p).reason();
  return padded_to_rank_3(p);
}

}  // namespace vicinal::cuda::sm90
