#include "core/tensors.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include <fmt/format.h>

#include "core/alignment.h"
#include "core/tensor_checker.h"

namespace vicinal {
namespace {

constexpr std::size_t kWorkspaceAlignment = 64;

using Shape = Expectation::Shape;
using Heads = Expectation::Heads;
using Row = Expectation::Row;
using enum Expectation::Presence;
using enum Expectation::Access;

Expectation::Presence presence_of_extra(const Problem& problem) { return problem.extra_kv > 0 ? required : absent; }

// The tensors of all operations, by how they are shaped.

Expectation of_query(std::string_view name, Row row, Expectation::Access access = read) {
  return {name, Shape::tokens, Heads::query, row, required, access};
}

Expectation of_key(std::string_view name, Row row, Expectation::Access access = read) {
  return {name, Shape::tokens, Heads::key_value, row, required, access};
}

Expectation of_extra(std::string_view name, Row row, const Problem& problem, Expectation::Access access = read) {
  return {name, Shape::extra, Heads::key_value, row, presence_of_extra(problem), access};
}

Expectation of_logsumexp(std::string_view name, Expectation::Presence presence, Expectation::Access access = read) {
  return {name, Shape::logsumexp, Heads::query, Row::none, presence, access};
}

Expectation of_bias(std::string_view name, Expectation::Presence presence, Expectation::Access access = read) {
  return {name, Shape::bias, Heads::query, Row::none, presence, access};
}

/// Of tensors that nobody has checked.
std::int64_t common_alignment(std::initializer_list<const Tensor*> tensors) {
  Alignment alignment;
  bool strides_are_taken = true;
  for (const Tensor* tensor : tensors) {
    if (!tensor->present()) continue;
    alignment.add(tensor->data);
    const int last = std::min(tensor->rank, kMaxTensorRank) - 1;
    for (int i = 0; i < last; ++i) {
      if (tensor->sizes[i] <= 1) continue;
      const std::int64_t stride = tensor->strides[i];
      const std::size_t size = size_of(tensor->dtype);
      alignment.add(stride, size);
      const bool is_taken = i == last - 1 ? copy_engine_takes_heads(tensor->sizes[i], stride, tensor->sizes[last])
                                          : copy_engine_takes_stride(stride, size);
      strides_are_taken = strides_are_taken && is_taken;
    }
  }
  return strides_are_taken ? alignment.bytes() : std::min(alignment.bytes(), kMostAlignment / 2);
}

}  // namespace

std::int64_t alignment_of(const ForwardTensors& tensors) noexcept {
  const auto& t = tensors;
  return common_alignment({&t.query, &t.key, &t.value, &t.extra_key, &t.extra_value});
}

std::int64_t alignment_of(const BackwardTensors& tensors) noexcept {
  const auto& t = tensors;
  return common_alignment({&t.query, &t.key, &t.value, &t.extra_key, &t.extra_value, &t.grad_output});
}

Status check_tensors(const Problem& problem, const ForwardTensors& tensors, ForwardViews& views) {
  const auto& p = problem;
  const auto& t = tensors;
  TensorChecker checker(problem);
  views = {
      .query = checker.view(of_query("query", Row::dim), t.query),
      .key = checker.view(of_key("key", Row::dim), t.key),
      .value = checker.view(of_key("value", Row::dim_v), t.value),
      .extra_key = checker.view(of_extra("extra_key", Row::dim, p), t.extra_key),
      .extra_value = checker.view(of_extra("extra_value", Row::dim_v, p), t.extra_value),
      .output = checker.view(of_query("output", Row::dim_v, written), t.output),
      .logsumexp = checker.view(of_logsumexp("logsumexp", optional, written), t.logsumexp),
  };
  return checker.status();
}

Status check_tensors(const Problem& problem, const BackwardTensors& tensors, BackwardViews& views) {
  const auto& p = problem;
  const auto& t = tensors;
  TensorChecker checker(problem);
  views = {
      .query = checker.view(of_query("query", Row::dim), t.query),
      .key = checker.view(of_key("key", Row::dim), t.key),
      .value = checker.view(of_key("value", Row::dim_v), t.value),
      .extra_key = checker.view(of_extra("extra_key", Row::dim, p), t.extra_key),
      .extra_value = checker.view(of_extra("extra_value", Row::dim_v, p), t.extra_value),
      .output = checker.view(of_query("output", Row::dim_v), t.output),
      .logsumexp = checker.view(of_logsumexp("logsumexp", required), t.logsumexp),
      .grad_output = checker.view(of_query("grad_output", Row::dim_v), t.grad_output),
      .grad_logsumexp = checker.view(of_logsumexp("grad_logsumexp", optional), t.grad_logsumexp),
      .grad_query = checker.view(of_query("grad_query", Row::dim, written), t.grad_query),
      .grad_key = checker.view(of_key("grad_key", Row::dim, written), t.grad_key),
      .grad_value = checker.view(of_key("grad_value", Row::dim_v, written), t.grad_value),
      .grad_extra_key = checker.view(of_extra("grad_extra_key", Row::dim, p, written), t.grad_extra_key),
      .grad_extra_value = checker.view(of_extra("grad_extra_value", Row::dim_v, p, written), t.grad_extra_value),
  };
  return checker.status();
}

Status check_tensors(const Problem& problem, const PointwiseNeighborhoodTensors& tensors,
                     PointwiseNeighborhoodViews& views) {
  const auto& p = problem;
  const auto& t = tensors;
  if (t.masked > MaskedScore::zero) {
    return Status::refuse(fmt::format("masked = {}; allowed: minus_infinity, zero", static_cast<int>(t.masked)));
  }
  TensorChecker checker(problem);
  views = {
      .query = checker.view(of_query("query", Row::dim), t.query),
      .key = checker.view(of_key("key", Row::dim), t.key),
      .extra_key = checker.view(of_extra("extra_key", Row::dim, p), t.extra_key),
      .bias = checker.bias_view(of_bias("bias", optional), t.bias),
      .weights = checker.view(of_query("weights", Row::slots, written), t.weights),
      .masked = t.masked,
  };
  return checker.status();
}

Status check_tensors(const Problem& problem, const NeighborhoodNeighborhoodTensors& tensors,
                     NeighborhoodNeighborhoodViews& views) {
  const auto& p = problem;
  const auto& t = tensors;
  TensorChecker checker(problem);
  views = {
      .weights = checker.view(of_query("weights", Row::slots), t.weights),
      .value = checker.view(of_key("value", Row::dim), t.value),
      .extra_value = checker.view(of_extra("extra_value", Row::dim, p), t.extra_value),
      .output = checker.view(of_query("output", Row::dim, written), t.output),
  };
  return checker.status();
}

Status check_tensors(const Problem& problem, const InverseNeighborhoodTensors& tensors,
                     InverseNeighborhoodViews& views) {
  const auto& p = problem;
  const auto& t = tensors;
  TensorChecker checker(problem);
  views = {
      .weights = checker.view(of_query("weights", Row::slots), t.weights),
      .grad_output = checker.view(of_query("grad_output", Row::dim), t.grad_output),
      .grad_value = checker.view(of_key("grad_value", Row::dim, written), t.grad_value),
      .grad_extra_value = checker.view(of_extra("grad_extra_value", Row::dim, p, written), t.grad_extra_value),
  };
  return checker.status();
}

Status check_tensors(const Problem& problem, const BiasGradientTensors& tensors, BiasGradientViews& views) {
  const auto& t = tensors;
  TensorChecker checker(problem);
  views = {
      .grad_weights = checker.view(of_query("grad_weights", Row::slots), t.grad_weights),
      .grad_bias = checker.bias_view(of_bias("grad_bias", required, written), t.grad_bias),
  };
  return checker.status();
}

Status check_execution(const Plan& plan, const Execution& execution) {
  if (execution.threads < 0) {
    return Status::refuse(
        fmt::format("threads = {}; allowed: 0 (as many as OpenMP would use) or more", execution.threads));
  }
  if (plan.workspace_bytes == 0) return {};
  if (execution.workspace_bytes < plan.workspace_bytes) {
    return Status::refuse(fmt::format("workspace_bytes = {}; allowed: at least the plan's workspace_bytes = {}",
                                      execution.workspace_bytes, plan.workspace_bytes));
  }
  if (execution.workspace == nullptr) {
    return Status::refuse(fmt::format("workspace is null; allowed: the address of {} bytes", plan.workspace_bytes));
  }
  if (reinterpret_cast<std::uintptr_t>(execution.workspace) % kWorkspaceAlignment != 0) {
    return Status::refuse(fmt::format("workspace is at {}; allowed: a multiple of {} bytes",
                                      fmt::ptr(execution.workspace), kWorkspaceAlignment));
  }
  return {};
}

}  // namespace vicinal
