// Attention with window 3 over a line of 8 tokens, through the installed package. All scores are equal, since the keys
// are zero, so an output is the mean of the values in its window and exp(logsumexp) is the number of neighbors.

#include <vicinal/vicinal.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <vector>

namespace {

constexpr std::int64_t kTokens = 8;
constexpr std::int64_t kDim = 4;

bool close(double actual, double expected) { return std::abs(actual - expected) < 1e-5; }

/// Runs the attention; true where every value is right.
bool attention_is_right() {
  vicinal::Problem problem;
  problem.rank = 1;
  problem.layout = {kTokens, 1, 1};
  problem.window = {3, 1, 1};
  problem.dim = kDim;
  problem.dim_v = 1;

  std::vector<float> query(kTokens * kDim, 1.0F);
  std::vector<float> key(kTokens * kDim, 0.0F);
  std::vector<float> value{0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<float> output(kTokens);
  std::vector<float> logsumexp(kTokens);

  const vicinal::Plan plan = vicinal::make_plan(problem, vicinal::Operation::forward);
  std::cout << "vicinal " << vicinal::kVersion << ", kernel " << plan.kernel_name() << '\n';

  struct alignas(64) Line {
    std::array<std::byte, 64> bytes;
  };
  std::vector<Line> workspace((plan.workspace_bytes + sizeof(Line) - 1) / sizeof(Line));
  vicinal::Execution execution;
  execution.workspace = workspace.data();
  execution.workspace_bytes = plan.workspace_bytes;

  vicinal::ForwardTensors tensors;
  tensors.query = vicinal::contiguous(query.data(), {1, kTokens, 1, kDim});
  tensors.key = vicinal::contiguous(key.data(), {1, kTokens, 1, kDim});
  tensors.value = vicinal::contiguous(value.data(), {1, kTokens, 1, 1});
  tensors.output = vicinal::contiguous(output.data(), {1, kTokens, 1, 1});
  tensors.logsumexp = vicinal::contiguous(logsumexp.data(), {1, kTokens, 1});
  vicinal::run(plan, tensors, execution);

  const std::array<double, kTokens> mean_of_window{1, 1, 2, 3, 4, 5, 6, 6};  // pushed inward at both ends
  bool right = true;
  for (std::size_t token = 0; token < mean_of_window.size(); ++token) {
    right = right && close(output[token], mean_of_window[token]) && close(std::exp(logsumexp[token]), 3);
    std::cout << "token " << token << ": " << output[token] << '\n';
  }
  return right;
}

}  // namespace

int main() {
  try {
    return attention_is_right() ? 0 : 1;
  } catch (const vicinal::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
