#include <vicinal/vicinal.h>

#include <vector>

int main() {
  vicinal::Problem problem;  // fp32, on the CPU, two axes, unless told otherwise
  problem.layout = {64, 64};
  problem.window = {7, 7};
  problem.heads = problem.heads_kv = 4;
  problem.dim = problem.dim_v = 32;
  const vicinal::Plan plan = vicinal::make_plan(problem, vicinal::Operation::forward);

  std::vector<float> query(64 * 64 * 4 * 32, 1.0F), key(query), value(query), output(query.size());
  const auto tensor = [](std::vector<float>& data) { return vicinal::contiguous(data.data(), {1, 64, 64, 4, 32}); };
  vicinal::run(plan, vicinal::ForwardTensors{tensor(query), tensor(key), tensor(value), {}, {}, tensor(output), {}});
}
