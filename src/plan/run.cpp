#include <fmt/format.h>

#include "core/tensors.h"
#include "plan/registry.h"
#include "vicinal/attention.h"
#include "vicinal/unfused.h"

namespace vicinal {
namespace {

void require(const Status& status) {
  if (!status.ok()) throw Error(ErrorKind::invalid_argument, status.reason());
}

/// Everything that can be wrong, before anything is written; then the kernel.
template <class Tensors, class Views>
void run_operation(const Plan& plan, Operation operation, const Tensors& tensors, const Execution& execution,
                   KernelRow::Launch<Views> KernelRow::* launch) {
  if (plan.kernel == nullptr) {
    throw Error(ErrorKind::invalid_argument, "plan is empty; allowed: what make_plan returned");
  }
  if (plan.operation != operation) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("plan is for the {0} pass, the tensors are of the {1} pass; allowed: a {1} plan",
                            name_of(plan.operation), name_of(operation)));
  }
  Views views;
  require(check_tensors(plan.problem, tensors, views));
  require(check_execution(plan, execution));
  // Without batch entries all results are empty, but the gradient of the bias, which is zero then.
  if (plan.problem.batch == 0 && operation != Operation::bias_gradient) return;
  (plan.kernel->*launch)(padded_to_rank_3(plan.problem), plan.tiling, views, execution);
}

}  // namespace

void run(const Plan& plan, const ForwardTensors& tensors, const Execution& execution) {
  run_operation(plan, Operation::forward, tensors, execution, &KernelRow::forward);
}

void run(const Plan& plan, const BackwardTensors& tensors, const Execution& execution) {
  run_operation(plan, Operation::backward, tensors, execution, &KernelRow::backward);
}

void run(const Plan& plan, const PointwiseNeighborhoodTensors& tensors, const Execution& execution) {
  run_operation(plan, Operation::pointwise_neighborhood, tensors, execution, &KernelRow::pointwise_neighborhood);
}

void run(const Plan& plan, const NeighborhoodNeighborhoodTensors& tensors, const Execution& execution) {
  run_operation(plan, Operation::neighborhood_neighborhood, tensors, execution, &KernelRow::neighborhood_neighborhood);
}

void run(const Plan& plan, const InverseNeighborhoodTensors& tensors, const Execution& execution) {
  run_operation(plan, Operation::inverse_neighborhood, tensors, execution, &KernelRow::inverse_neighborhood);
}

void run(const Plan& plan, const BiasGradientTensors& tensors, const Execution& execution) {
  run_operation(plan, Operation::bias_gradient, tensors, execution, &KernelRow::bias_gradient);
}

}  // namespace vicinal
