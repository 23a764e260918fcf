#pragma once

// What the Python package calls: a neighborhood (everything that does not depend on the tensors), its plans, and the
// two passes.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nanobind/nanobind.h>

#include "plan/forced_tiling.h"
#include "vicinal/attention.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"

namespace vicinal::python {

/// The parameters of a call that are the same whatever the tensors.
struct Neighborhood {
  int rank = 0;
  PerAxis<std::int64_t> kernel_size{1, 1, 1};
  PerAxis<std::int64_t> stride{1, 1, 1};
  PerAxis<std::int64_t> dilation{1, 1, 1};
  PerAxis<bool> is_causal{false, false, false};
  std::optional<double> scale;
  std::string backend;                   // empty: the cheapest
  ForcedTiling tiling, backward_tiling;  // of the forward and the backward pass

  /// From the tuple (kernel_size, stride, dilation, is_causal, scale, backend, tilings): a tuple with one value per
  /// axis in each of the first four; None for the default of the next two; in the last, unless it is empty, for the
  /// forward and then for the backward pass query tile, key tile and block, one value per axis each, rows and columns,
  /// 0 for what the planner is to choose. Throws `Error` for other counts; what values are legal depends on the
  /// tensors.
  explicit Neighborhood(const nanobind::tuple& parameters);

  /// A problem with these parameters and all else as in a default-constructed one.
  [[nodiscard]] Problem problem() const;
};

/// The plan for a problem, made once and then kept. The GIL must be held. Throws `Error` as make_plan does.
std::shared_ptr<const Plan> plan_for(const Problem& problem, Operation operation, const Neighborhood& neighborhood,
                                     bool deterministic = false);

/// The plan for tensors of the given sizes. Throws `Error` as make_plan does.
Plan plan(const nanobind::tuple& parameters, const nanobind::tuple& layout, std::int64_t batch, std::int64_t heads,
          std::int64_t heads_kv, std::int64_t dim, std::int64_t dim_v, std::int64_t additional_tokens,
          std::string_view dtype, std::string_view operation, bool deterministic);

/// Runs a forward pass on arrays that `tensor_of` reads, and writes `output` and, unless it is None, `logsumexp`.
/// Other Python threads run meanwhile. `where`: see execution.h.
void forward(const nanobind::tuple& parameters, nanobind::handle query, nanobind::handle key, nanobind::handle value,
             nanobind::handle additional_keys, nanobind::handle additional_values, nanobind::handle output,
             nanobind::handle logsumexp, nanobind::handle where);

/// The same for a backward pass: writes the five gradients; those of additional tokens are None where there are none.
/// `deterministic`: see PlanOptions.
void backward(const nanobind::tuple& parameters, nanobind::handle query, nanobind::handle key, nanobind::handle value,
              nanobind::handle additional_keys, nanobind::handle additional_values, nanobind::handle output,
              nanobind::handle logsumexp, nanobind::handle grad_output, nanobind::handle grad_logsumexp,
              nanobind::handle grad_query, nanobind::handle grad_key, nanobind::handle grad_value,
              nanobind::handle grad_additional_keys, nanobind::handle grad_additional_values, bool deterministic,
              nanobind::handle where);

}  // namespace vicinal::python
