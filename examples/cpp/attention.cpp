// Neighborhood attention from C++: state a problem, plan it, run the plan on memory of your own.

#include <vicinal/vicinal.h>

#include <cstddef>
#include <iostream>
#include <vector>

int main() {
  try {
    vicinal::Problem problem;
    problem.rank = 2;
    problem.layout = {64, 48};
    problem.window = {7, 7};
    problem.causal = {true, false};  // rows see only the rows above them
    problem.heads = problem.heads_kv = 4;
    problem.dim = problem.dim_v = 32;

    // A plan is made once and used for every call of the same problem. It knows which kernel will run, and why.
    const vicinal::Plan plan = vicinal::make_plan(problem, vicinal::Operation::forward);
    std::cout << plan.explain() << '\n';

    // Heads-last: [batch, rows, columns, heads, dim]. Strides may be anything; here everything is contiguous.
    const std::size_t count = 64 * 48 * 4 * 32;
    std::vector<float> query(count, 1.0F), key(count, 0.5F), value(count, 2.0F), output(count);
    const auto tensor = [](std::vector<float>& data) { return vicinal::contiguous(data.data(), {1, 64, 48, 4, 32}); };

    struct alignas(64) Line {
      std::byte bytes[64];
    };
    std::vector<Line> workspace(plan.workspace_bytes / sizeof(Line) + 1);  // reused by every run

    vicinal::ForwardTensors tensors;
    tensors.query = tensor(query);
    tensors.key = tensor(key);
    tensors.value = tensor(value);
    tensors.output = tensor(output);
    vicinal::run(plan, tensors, {.workspace = workspace.data(), .workspace_bytes = plan.workspace_bytes});
    std::cout << "output[0] = " << output[0] << '\n';  // the mean of the values in the window: 2
  } catch (const vicinal::Error& error) {
    std::cerr << error.what() << '\n';  // names the argument, its value and what is allowed
    return 1;
  }
}
