#include "vicinal/attention.h"

#include "core/tensors.h"
#include "plan/registry.h"

namespace vicinal {
namespace {

void require(const Status& status) {
  if (!status.ok()) throw Error(ErrorKind::invalid_argument, status.reason());
}

/// Everything that can be wrong, before anything is written.
template <class Tensors, class Views>
void check(const Plan& plan, Operation operation, const Tensors& tensors, const Execution& execution, Views& views) {
  if (plan.kernel == nullptr) {
    throw Error(ErrorKind::invalid_argument, "plan is empty; allowed: what make_plan returned");
  }
  if (plan.operation != operation) {
    throw Error(ErrorKind::invalid_argument,
                operation == Operation::forward
                    ? "plan is for the backward pass, the tensors are of the forward pass; allowed: a forward plan"
                    : "plan is for the forward pass, the tensors are of the backward pass; allowed: a backward plan");
  }
  require(check_tensors(plan.problem, tensors, views));
  require(check_execution(plan, execution));
}

}  // namespace

void run(const Plan& plan, const ForwardTensors& tensors, const Execution& execution) {
  ForwardViews views;
  check(plan, Operation::forward, tensors, execution, views);
  if (plan.problem.batch == 0) return;
  plan.kernel->forward(padded_to_rank_3(plan.problem), plan.tiling, views, execution);
}

void run(const Plan& plan, const BackwardTensors& tensors, const Execution& execution) {
  BackwardViews views;
  check(plan, Operation::backward, tensors, execution, views);
  if (plan.problem.batch == 0) return;
  plan.kernel->backward(padded_to_rank_3(plan.problem), plan.tiling, views, execution);
}

}  // namespace vicinal
