#include "check/case.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "check/random.h"
#include "core/tiling.h"
#include "plan/cost.h"

namespace vicinal::check {
namespace {

// Forward multiply-adds of a case at size 1: most cases are small, some have many tiles.
constexpr double kSmallWork = 2e6;
constexpr double kLargeWork = 1.5e7;

void choose_axis(Random& random, std::int64_t extent, int axis, Problem& problem) {
  const std::int64_t dilation =
      random.chance(0.65) ? 1 : random.between(1, random.chance(0.8) ? std::min<std::int64_t>(extent, 5) : extent);
  const std::int64_t longest = extent / dilation;
  const std::int64_t window = random.chance(0.07)   ? 1
                              : random.chance(0.15) ? longest
                              : random.chance(0.6)  ? random.between(1, std::min<std::int64_t>(longest, 13))
                                                    : random.between(1, longest);
  problem.layout[axis] = extent;
  problem.dilation[axis] = dilation;
  problem.window[axis] = window;
  problem.stride[axis] = random.chance(0.6) ? 1 : random.chance(0.3) ? window : random.between(1, window);
  problem.causal[axis] = random.chance(0.3);
}

void choose_grid(Random& random, Problem& problem) {
  problem.rank = static_cast<int>(random.between(1, 3));
  double tokens = std::exp2(random.chance(0.1) ? 3 * random.unit() : 4 + 8 * random.unit());
  for (int a = 0; a < problem.rank; ++a) {
    const double typical = std::pow(tokens, 1.0 / (problem.rank - a));
    const double extent = a + 1 < problem.rank ? typical * std::exp2(2 * random.unit() - 1) : tokens;
    choose_axis(random, std::max<std::int64_t>(1, std::llround(extent)), a, problem);
    tokens = std::max(1.0, tokens / std::max(1.0, extent));
  }
}

std::int64_t choose_dim(Random& random) {
  return random.chance(0.03)
             ? random.one_of<std::int64_t>({160, 192, 256, 300, 512})
             : random.one_of<std::int64_t>({1, 2, 3, 5, 8, 16, 16, 24, 32, 32, 40, 48, 64, 64, 72, 80, 96, 100, 128});
}

void choose_heads(Random& random, Problem& problem) {
  problem.batch = random.chance(0.02) ? 0 : random.one_of<std::int64_t>({1, 1, 2, 3});
  problem.heads_kv = random.one_of<std::int64_t>({1, 1, 2, 3});
  problem.heads = problem.heads_kv * random.one_of<std::int64_t>({1, 1, 1, 2, 3});
  problem.dim = choose_dim(random);
  problem.dim_v = random.chance(0.6) ? problem.dim : choose_dim(random);
  problem.extra_kv = random.chance(0.7) ? 0 : random.chance(0.9) ? random.between(1, 20) : random.between(60, 200);
  problem.dtype = random.one_of({DType::fp64, DType::fp32, DType::fp16, DType::bf16});
  if (random.chance(0.3)) {
    const double usual = problem.effective_scale();
    problem.scale = random.one_of({0.0, -usual, 0.5 * usual, 2.0 * usual});
  }
}

// The shape of many published models, which some kernels are made for: two axes, head dim 32, a small window.
void choose_usual(Random& random, Problem& problem) {
  problem.rank = 2;
  problem.dim = problem.dim_v = 32;
  problem.extra_kv = 0;
  for (int a = 0; a < 3; ++a) {
    const bool used = a < problem.rank;
    problem.window[a] = used ? random.between(3, 13) : 1;
    problem.dilation[a] = used ? random.one_of<std::int64_t>({1, 1, 2, 3}) : 1;
    problem.stride[a] = 1;
    problem.causal[a] = used && random.chance(0.2);
    problem.layout[a] = used ? problem.window[a] * problem.dilation[a] + random.between(0, 12) : 1;
  }
}

void shrink_axis(int axis, Problem& problem) {
  problem.layout[axis] = problem.layout[axis] * 3 / 4;  // not by two: extents stay ragged
  problem.dilation[axis] = std::min(problem.dilation[axis], problem.layout[axis]);
  problem.window[axis] = std::min(problem.window[axis], problem.layout[axis] / problem.dilation[axis]);
  problem.stride[axis] = std::min(problem.stride[axis], problem.window[axis]);
}

// Makes one quantity smaller at a time until the work fits. Batch, heads and dims go first: they repeat the same tiles.
void shrink_to(double work, Random& random, Problem& problem) {
  const auto too_much = [&] {
    const Problem grid = padded_to_rank_3(problem);
    return multiply_adds(grid, Operation::forward, needed_pairs(grid)) > work;
  };
  while (too_much()) {
    const auto longest = static_cast<int>(
        std::max_element(problem.layout.begin(), problem.layout.begin() + problem.rank) - problem.layout.begin());
    if (problem.batch > 1 && random.chance(0.5)) {
      problem.batch -= 1;
    } else if (problem.heads > problem.heads_kv && random.chance(0.5)) {
      problem.heads -= problem.heads_kv;
    } else if (problem.heads_kv > 1 && random.chance(0.5)) {
      problem.heads -= problem.heads / problem.heads_kv;
      problem.heads_kv -= 1;
    } else if (problem.dim + problem.dim_v > 40 && random.chance(0.6)) {
      problem.dim = ceil_div(problem.dim, 2);
      problem.dim_v = ceil_div(problem.dim_v, 2);
    } else if (problem.layout[longest] <= 8 && problem.extra_kv > 0) {
      problem.extra_kv /= 2;
    } else if (problem.layout[longest] > 1) {
      shrink_axis(longest, problem);
    } else {
      return;  // one token, which is as small as it gets
    }
  }
}

Arrangement choose_arrangement(Random& random, int rank, bool written) {
  Arrangement arrangement;
  if (random.chance(0.4)) return arrangement;
  arrangement.heads_first = random.chance(0.3);
  if (random.chance(0.3)) arrangement.row_gap = random.between(1, 9);
  if (random.chance(0.4)) arrangement.token_gap = random.between(1, 6);
  const int outer_dimensions = rank + 2;
  if (random.chance(0.2)) arrangement.reversed = 1U << random.between(0, outer_dimensions - 1);
  if (!written && random.chance(0.15)) arrangement.broadcast = 1U << random.between(0, outer_dimensions - 1);
  return arrangement;
}

constexpr std::int64_t kAligned = 16;  // elements

// Kernels that load several elements at once do so only where all tensors are aligned.
void align(Arrangement& arrangement) {
  arrangement.shift = 0;
  if (arrangement.row_gap > 0) arrangement.row_gap = kAligned;
}

// Some do so where tokens are aligned, and heads and the ends of rows need not be.
void align_tokens(Arrangement& arrangement, std::int64_t heads, std::int64_t row) {
  arrangement.shift = 0;
  if (arrangement.heads_first) {
    arrangement.row_gap = ceil_div(row, kAligned) * kAligned - row;
  } else {
    arrangement.token_gap = ceil_div(heads + arrangement.token_gap, kAligned) * kAligned - heads;
  }
}

}  // namespace

Case random_case(const Sweep& sweep, std::int64_t number) {
  Random random(mix(sweep.seed) + static_cast<std::uint64_t>(number));
  Case c;
  choose_grid(random, c.problem);
  choose_heads(random, c.problem);
  const bool usual = random.chance(0.1);
  if (usual) choose_usual(random, c.problem);
  shrink_to(sweep.size * (random.chance(0.1) ? kLargeWork : kSmallWork), random, c.problem);
  if (usual && random.chance(0.5)) {  // some kernels want an even number of such heads
    c.problem.heads = c.problem.heads_kv = 2;
    c.problem.dim = c.problem.dim_v = 32;
  }
  c.seed = random.bits();
  c.query_magnitude = random.one_of({1.0, 1.0, 4.0, 16.0});
  c.with_optional_inputs = random.chance(0.6);
  for (Arrangement& arrangement : c.inputs) arrangement = choose_arrangement(random, c.problem.rank, false);
  for (Arrangement& arrangement : c.results) arrangement = choose_arrangement(random, c.problem.rank, true);
  if (random.chance(0.5)) c.masked = MaskedScore::zero;
  if (random.chance(0.5)) {
    for (Arrangement& arrangement : c.inputs) align(arrangement);
    for (Arrangement& arrangement : c.results) align(arrangement);
    if (random.chance(0.6)) {  // as a copy engine wants them: whole pieces of 16 bytes, and no way back
      for (std::int64_t* dim : {&c.problem.dim, &c.problem.dim_v}) *dim = ceil_div(*dim, 8) * 8;
      for (Arrangement& arrangement : c.inputs) arrangement.reversed = 0;
      for (Arrangement& arrangement : c.results) arrangement.reversed = 0;
    }
  } else if (random.chance(0.5)) {
    const Problem& p = c.problem;
    // In the order of Case: query, key, value, grad_output.
    align_tokens(c.inputs[0], p.heads, p.dim);
    align_tokens(c.inputs[1], p.heads_kv, p.dim);
    align_tokens(c.inputs[2], p.heads_kv, p.dim_v);
    align_tokens(c.inputs[3], p.heads, p.dim_v);
  }
  return c;
}

std::string reproducing_command(const Sweep& sweep, std::int64_t number, std::string_view kernel) {
  std::string command = fmt::format("vicinal check --seed {} --case {} --kernel {}", sweep.seed, number, kernel);
  if (sweep.size != 1) command += fmt::format(" --size {}", sweep.size);
  return command;
}

}  // namespace vicinal::check
