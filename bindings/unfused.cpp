#include "unfused.h"

#include <algorithm>

#include <fmt/format.h>

#include "arrays.h"
#include "attention.h"
#include "execution.h"
#include "vicinal/error.h"
#include "vicinal/unfused.h"

namespace nb = nanobind;

namespace vicinal::python {
namespace {

/// Refuses a tensor that is not [batch, *layout, heads, row], from which a problem is read.
void require_rows(const char* name, const Tensor& tensor, int rank, const char* row) {
  if (tensor.rank == rank + 3) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} has {} dimensions; allowed: {}, [batch, {} extents, heads, {}]", name, tensor.rank,
                          rank + 3, rank, row));
}

/// The problem of weights, or of rows, of all query heads. `run` compares all other tensors with it.
Problem problem_of(const Neighborhood& neighborhood, const Tensor& of_queries, std::int64_t heads_kv, std::int64_t dim,
                   const Tensor& extra) {
  const int rank = neighborhood.rank;
  Problem problem = neighborhood.problem();
  problem.batch = of_queries.sizes[0];
  std::copy_n(of_queries.sizes.begin() + 1, rank, problem.layout.begin());
  problem.heads = of_queries.sizes[rank + 1];
  problem.heads_kv = heads_kv;
  problem.dim = problem.dim_v = dim;
  problem.extra_kv = extra.rank > 1 ? extra.sizes[1] : 0;
  problem.dtype = of_queries.dtype;
  problem.device = of_queries.device;
  return problem;
}

/// The slots of extra tokens, of all slots of a query; 0 where the window already has more.
std::int64_t slots_beyond_window(const Problem& problem, std::int64_t slots) {
  std::int64_t window = 1;
  for (int a = 0; a < problem.rank; ++a) {
    if (problem.window[a] < 1 || problem.window[a] > slots / window) return 0;  // refused later, with a reason
    window *= problem.window[a];
  }
  return slots - window;
}

template <class Tensors>
void plan_and_run(const Neighborhood& neighborhood, const Problem& problem, Operation operation, const Tensors& tensors,
                  nb::handle where) {
  run_without_gil(*plan_for(problem, operation, neighborhood), tensors, where);
}

}  // namespace

void pointwise_neighborhood(const nb::tuple& parameters, nb::handle query, nb::handle key, nb::handle additional_keys,
                            nb::handle rpb, nb::handle attn, bool masked_is_zero, nb::handle where) {
  const Neighborhood neighborhood(parameters);
  const PointwiseNeighborhoodTensors tensors{
      .query = tensor_of(query, "query"),
      .key = tensor_of(key, "key"),
      .extra_key = tensor_of(additional_keys, "additional_keys"),
      .bias = tensor_of(rpb, "rpb"),
      .weights = tensor_of(attn, "attn"),
      .masked = masked_is_zero ? MaskedScore::zero : MaskedScore::minus_infinity,
  };
  const int rank = neighborhood.rank;
  require_rows("query", tensors.query, rank, "dim");
  require_rows("key", tensors.key, rank, "dim");
  const Problem problem = problem_of(neighborhood, tensors.query, tensors.key.sizes[rank + 1],
                                     tensors.query.sizes[rank + 2], tensors.extra_key);
  plan_and_run(neighborhood, problem, Operation::pointwise_neighborhood, tensors, where);
}

void neighborhood_neighborhood(const nb::tuple& parameters, nb::handle attn, nb::handle value,
                               nb::handle additional_values, nb::handle output, nb::handle where) {
  const Neighborhood neighborhood(parameters);
  const NeighborhoodNeighborhoodTensors tensors{
      .weights = tensor_of(attn, "attn"),
      .value = tensor_of(value, "value"),
      .extra_value = tensor_of(additional_values, "additional_values"),
      .output = tensor_of(output, "output"),
  };
  const int rank = neighborhood.rank;
  require_rows("attn", tensors.weights, rank, "slots");
  require_rows("value", tensors.value, rank, "dim");
  const Problem problem = problem_of(neighborhood, tensors.weights, tensors.value.sizes[rank + 1],
                                     tensors.value.sizes[rank + 2], tensors.extra_value);
  plan_and_run(neighborhood, problem, Operation::neighborhood_neighborhood, tensors, where);
}

void inverse_neighborhood(const nb::tuple& parameters, nb::handle attn, nb::handle grad_output, nb::handle grad_value,
                          nb::handle grad_additional_values, nb::handle where) {
  const Neighborhood neighborhood(parameters);
  const InverseNeighborhoodTensors tensors{
      .weights = tensor_of(attn, "attn"),
      .grad_output = tensor_of(grad_output, "grad_output"),
      .grad_value = tensor_of(grad_value, "grad_value"),
      .grad_extra_value = tensor_of(grad_additional_values, "grad_additional_values"),
  };
  const int rank = neighborhood.rank;
  require_rows("grad_output", tensors.grad_output, rank, "dim");
  require_rows("grad_value", tensors.grad_value, rank, "dim");
  const Problem problem = problem_of(neighborhood, tensors.grad_output, tensors.grad_value.sizes[rank + 1],
                                     tensors.grad_output.sizes[rank + 2], tensors.grad_extra_value);
  plan_and_run(neighborhood, problem, Operation::inverse_neighborhood, tensors, where);
}

void bias_gradient(const nb::tuple& parameters, nb::handle grad_attn, nb::handle grad_rpb, nb::handle where) {
  const Neighborhood neighborhood(parameters);
  const BiasGradientTensors tensors{
      .grad_weights = tensor_of(grad_attn, "grad_attn"),
      .grad_bias = tensor_of(grad_rpb, "grad_rpb"),
  };
  const int rank = neighborhood.rank;
  require_rows("grad_attn", tensors.grad_weights, rank, "slots");
  Problem problem = problem_of(neighborhood, tensors.grad_weights, tensors.grad_weights.sizes[rank + 1], 1, {});
  problem.extra_kv = slots_beyond_window(problem, tensors.grad_weights.sizes[rank + 2]);
  plan_and_run(neighborhood, problem, Operation::bias_gradient, tensors, where);
}

}  // namespace vicinal::python
