#pragma once

// From the tensors that a caller hands over to the views that kernels read: every check happens here, before any kernel
// runs, so that nothing is written when something is wrong.

#include "core/view.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"
#include "vicinal/unfused.h"

namespace vicinal {

/// Checks presence, dtype, device, shape, strides and addresses of every tensor against a valid problem; on success
/// fills `views`. The reason names the tensor, what it is and what is allowed.
Status check_tensors(const Problem& problem, const ForwardTensors& tensors, ForwardViews& views);
Status check_tensors(const Problem& problem, const BackwardTensors& tensors, BackwardViews& views);
Status check_tensors(const Problem& problem, const PointwiseNeighborhoodTensors& tensors,
                     PointwiseNeighborhoodViews& views);
Status check_tensors(const Problem& problem, const NeighborhoodNeighborhoodTensors& tensors,
                     NeighborhoodNeighborhoodViews& views);
Status check_tensors(const Problem& problem, const InverseNeighborhoodTensors& tensors,
                     InverseNeighborhoodViews& views);
Status check_tensors(const Problem& problem, const BiasGradientTensors& tensors, BiasGradientViews& views);

/// Checks thread count and workspace against the plan.
Status check_execution(const Plan& plan, const Execution& execution);

/// The dtype of logsumexp: fp64 for fp64 problems, else fp32.
constexpr DType logsumexp_dtype(DType dtype) { return dtype == DType::fp64 ? DType::fp64 : DType::fp32; }

}  // namespace vicinal
