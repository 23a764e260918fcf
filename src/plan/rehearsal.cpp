#include "plan/rehearsal.h"

#include <array>
#include <cstdint>
#include <exception>

#include "plan/plan_cache.h"

namespace vicinal {
namespace {

using Tokens = PerAxis<std::int64_t>;

Problem half_precision(const Device& device, int rank, const Tokens& layout, const Tokens& window, std::int64_t heads,
                       std::int64_t dim) {
  Problem problem;
  problem.rank = rank;
  problem.layout = layout;
  problem.window = window;
  problem.heads = problem.heads_kv = heads;
  problem.dim = problem.dim_v = dim;
  problem.dtype = DType::fp16;
  problem.device = device;
  return problem;
}

}  // namespace

Problem rehearsed_problem(const Device& device) {
  return half_precision(device, 1, {32768, 1, 1}, {2048, 1, 1}, 2, 32);
}

std::array<Problem, 2> rehearsed_volumes(const Device& device) {
  std::array volumes{half_precision(device, 3, {24, 40, 64}, {13, 18, 20}, 16, 128),
                     half_precision(device, 3, {16, 36, 40}, {9, 12, 14}, 16, 64)};
  volumes[1].batch = 2;
  return volumes;
}

bool rehearse_plans(const Device& device) noexcept {
  try {
    PlanCache forgotten(16);
    for (const Operation operation : {Operation::forward, Operation::backward}) {
      make_plan(forgotten, rehearsed_problem(device), operation);
    }
    for (const Problem& volume : rehearsed_volumes(device)) make_plan(forgotten, volume, Operation::forward);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace vicinal
