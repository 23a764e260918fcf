// The extension module vicinal._ext: attention on raw memory. What people call is in python/vicinal.

#include <array>
#include <cctype>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "attention.h"
#include "plan/registry.h"
#include "unfused.h"
#include "vicinal/error.h"
#include "vicinal/plan.h"
#include "vicinal/version.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace vicinal::python {
namespace {

/// The library's names for arguments that Python calls otherwise.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kPythonNames{{
    {"window", "kernel_size"},
    {"causal", "is_causal"},
    {"extra_key", "additional_keys"},
    {"extra_value", "additional_values"},
    {"grad_extra_key", "grad_additional_keys"},
    {"grad_extra_value", "grad_additional_values"},
    {"extra_kv", "additional_tokens"},
    {"weights", "attn"},
    {"grad_weights", "grad_attn"},
    {"bias", "rpb"},
    {"grad_bias", "grad_rpb"},
}};

std::string_view python_name(std::string_view name) {
  for (const auto& [ours, theirs] : kPythonNames) {
    if (name == ours) return theirs;
  }
  return name;
}

/// A message in which every argument has the name that a Python caller gave it by.
std::string in_python_names(std::string_view message) {
  const auto in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  std::string result;
  while (!message.empty()) {
    std::size_t length = 0;
    while (length < message.size() && in_word(message[length])) ++length;
    result += python_name(message.substr(0, length));
    if (length < message.size()) result += message[length++];
    message.remove_prefix(length);
  }
  return result;
}

void raise_as_python_error(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::invalid_argument: PyErr_SetString(PyExc_ValueError, in_python_names(error.what()).c_str()); return;
    case ErrorKind::unsupported: PyErr_SetString(PyExc_NotImplementedError, error.what()); return;
    case ErrorKind::system: PyErr_SetString(PyExc_RuntimeError, error.what()); return;
  }
}

/// The axes of the caller's problem, of three.
nb::tuple own_axes(const Plan& plan, const PerAxis<std::int64_t>& padded) {
  nb::list axes;
  for (auto a = static_cast<std::size_t>(3 - plan.problem.rank); a < 3; ++a) axes.append(padded[a]);
  return nb::tuple(axes);
}

void bind_plan(nb::module_& module) {
  nb::class_<Plan>(module, "Plan",
                   "What would run for a problem, and why: which kernel, with which tiles, at what cost. "
                   "`str(plan)` explains it in a few lines.")
      .def_prop_ro("kernel", &Plan::kernel_name, "Name of the chosen kernel")
      .def_prop_ro(
          "backend", [](const Plan& plan) { return plan.kernel->backend; },
          "What to pass as `backend` to get this kernel")
      .def_prop_ro("operation", [](const Plan& plan) { return name_of(plan.operation); })
      .def_prop_ro(
          "problem", [](const Plan& plan) { return to_string(plan.problem); },
          "The problem in the words of the command line")
      .def_prop_ro(
          "query_tile", [](const Plan& plan) { return own_axes(plan, plan.tiling.query_tile); },
          "Queries that share one softmax block, per axis")
      .def_prop_ro(
          "key_tile", [](const Plan& plan) { return own_axes(plan, plan.tiling.key_tile); },
          "Keys of one tile, per axis")
      .def_prop_ro(
          "block", [](const Plan& plan) { return own_axes(plan, plan.tiling.block); },
          "Query tiles of one work item, per axis")
      .def_prop_ro(
          "rows", [](const Plan& plan) { return plan.tiling.rows; },
          "Query slots computed per query tile, padding included")
      .def_prop_ro(
          "columns", [](const Plan& plan) { return plan.tiling.columns; },
          "Key slots computed per key tile, padding included")
      .def_prop_ro(
          "needed_multiply_adds", [](const Plan& plan) { return plan.cost.needed_multiply_adds; },
          "Multiply-adds by the definition of the problem")
      .def_prop_ro(
          "visited_multiply_adds", [](const Plan& plan) { return plan.cost.visited_multiply_adds; },
          "Multiply-adds that the kernel computes, masked and padded slots included")
      .def_prop_ro(
          "bytes", [](const Plan& plan) { return plan.cost.bytes; }, "To and from memory, each tensor once")
      .def_prop_ro(
          "seconds", [](const Plan& plan) { return plan.cost.seconds; },
          "The cost model's estimate, good for comparing kernels on one machine")
      .def_ro("workspace_bytes", &Plan::workspace_bytes, "Memory beyond inputs and outputs that a run takes")
      .def_prop_ro(
          "refusals",
          [](const Plan& plan) {
            std::vector<std::pair<std::string, std::string>> refusals;
            refusals.reserve(plan.refusals.size());
            for (const Refusal& refusal : plan.refusals) refusals.emplace_back(refusal.kernel, refusal.reason);
            return refusals;
          },
          "(kernel, reason) of every kernel that was not chosen")
      .def("__str__", &Plan::explain)
      .def("__repr__", [](const Plan& plan) {
        return fmt::format("<vicinal.Plan {}: {}>", plan.kernel_name(), to_string(plan.problem));
      });
}

void bind_attention(nb::module_& module) {
  nb::class_<Array>(module, "Array", "A strided array in memory that the caller keeps alive; strides in elements")
      .def(nb::init<std::uintptr_t, const std::vector<std::int64_t>&, const std::vector<std::int64_t>&,
                    std::string_view>(),
           "address"_a, "shape"_a, "strides"_a, "dtype"_a);

  module.def("register_array_type", &register_array_type, "type"_a,
             "Lets `forward` and `backward` take instances of a type with DLPack's C exchange API");
  module.def("plan", &plan, "parameters"_a, "layout"_a, "batch"_a, "heads"_a, "heads_kv"_a, "dim"_a, "dim_v"_a,
             "additional_tokens"_a, "dtype"_a, "operation"_a, "deterministic"_a,
             "The plan for tensors of these sizes on the CPU");
  module.def("forward", &forward, "parameters"_a, "query"_a, "key"_a, "value"_a, "additional_keys"_a.none(),
             "additional_values"_a.none(), "output"_a, "logsumexp"_a.none(), "where"_a,
             "Writes output and, unless it is None, logsumexp; releases the GIL");
  module.def(
      "backward", &backward, "parameters"_a, "query"_a, "key"_a, "value"_a, "additional_keys"_a.none(),
      "additional_values"_a.none(), "output"_a, "logsumexp"_a, "grad_output"_a, "grad_logsumexp"_a.none(),
      "grad_query"_a, "grad_key"_a, "grad_value"_a, "grad_additional_keys"_a.none(), "grad_additional_values"_a.none(),
      "deterministic"_a, "where"_a,
      "Writes the gradients, by a kernel that gives the same bits in every run where so asked; releases the GIL");
}

void bind_unfused(nb::module_& module) {
  module.def("pointwise_neighborhood", &pointwise_neighborhood, "parameters"_a, "query"_a, "key"_a,
             "additional_keys"_a.none(), "rpb"_a.none(), "attn"_a, "masked_is_zero"_a, "where"_a,
             "Writes attn, with 0 in masked slots or else -inf; releases the GIL");
  module.def("neighborhood_neighborhood", &neighborhood_neighborhood, "parameters"_a, "attn"_a, "value"_a,
             "additional_values"_a.none(), "output"_a, "where"_a, "Writes output; releases the GIL");
  module.def("inverse_neighborhood", &inverse_neighborhood, "parameters"_a, "attn"_a, "grad_output"_a, "grad_value"_a,
             "grad_additional_values"_a.none(), "where"_a, "Writes the gradients of values; releases the GIL");
  module.def("bias_gradient", &bias_gradient, "parameters"_a, "grad_attn"_a, "grad_rpb"_a, "where"_a,
             "Writes grad_rpb; releases the GIL");
}

}  // namespace
}  // namespace vicinal::python

NB_MODULE(_ext, module) {
  nb::register_exception_translator([](const std::exception_ptr& exception, void*) {
    try {
      std::rethrow_exception(exception);
    } catch (const vicinal::Error& error) {
      vicinal::python::raise_as_python_error(error);
    }
  });
  module.attr("__version__") = vicinal::kVersion;
  vicinal::python::bind_plan(module);
  vicinal::python::bind_attention(module);
  vicinal::python::bind_unfused(module);
}
