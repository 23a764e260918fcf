#include "plan/rehearsal.h"

#include <array>
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

std::array<Problem, 2> rehearsed_volumes(const Device& device) {
  Problem large;
  large.rank = 3;
  large.layout = {24, 40, 64};
  large.window = {13, 18, 20};
  large.heads = large.heads_kv = 16;
  large.dim = large.dim_v = 128;
  large.dtype = DType::fp16;
  large.device = device;
  Problem small = large;
  small.batch = 2;
  small.layout = {16, 36, 40};
  small.window = {9, 12, 14};
  small.dim = small.dim_v = 64;
  return {large, small};
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
