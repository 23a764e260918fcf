#include "plan/rehearsal.h"

#include <exception>

#include "plan/plan_cache.h"

namespace vicinal {

Problem rehearsed_problem(const Device& device) {
  Problem problem;
  problem.rank = 1;
  problem.layout = {32768, 1, 1};
  problem.window = {2048, 1, 1};
  problem.heads = problem.heads_kv = 2;
  problem.dim = problem.dim_v = 32;
  problem.dtype = DType::fp16;
  problem.device = device;
  return problem;
}

Problem rehearsed_volume(const Device& device) {
  Problem problem;
  problem.rank = 3;
  problem.layout = {24, 40, 64};
  problem.window = {13, 18, 20};
  problem.heads = problem.heads_kv = 16;
  problem.dim = problem.dim_v = 128;
  problem.dtype = DType::fp16;
  problem.device = device;
  return problem;
}

bool rehearse_plans(const Device& device) noexcept {
  try {
    PlanCache forgotten(16);
    for (const Operation operation : {Operation::forward, Operation::backward}) {
      make_plan(forgotten, rehearsed_problem(device), operation);
    }
    make_plan(forgotten, rehearsed_volume(device), Operation::forward);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace vicinal
