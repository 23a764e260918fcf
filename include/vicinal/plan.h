#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vicinal/problem.h"

namespace vicinal {

enum class Operation : std::uint8_t {
  forward,   ///< output and logsumexp from query, key, value
  backward,  ///< gradients of query, key, value (and extra tokens) from the gradients of output and logsumexp
  pointwise_neighborhood,     ///< PN: the score of every query with every key of its window (include/vicinal/unfused.h)
  neighborhood_neighborhood,  ///< NN: weighted sums over the keys of each query's window
  inverse_neighborhood,       ///< IN: weighted sums over the queries that attend to each key
  bias_gradient,              ///< the gradient of the relative positional bias of PN
};

inline constexpr std::array kOperations{
    Operation::forward,
    Operation::backward,
    Operation::pointwise_neighborhood,
    Operation::neighborhood_neighborhood,
    Operation::inverse_neighborhood,
    Operation::bias_gradient,
};

/// Whether the operation is one of include/vicinal/unfused.h, which read or write the weights of a problem.
constexpr bool is_unfused(Operation operation) { return operation >= Operation::pointwise_neighborhood; }

/// "forward", "backward", "pointwise_neighborhood", ...: the enumerator.
VICINAL_API std::string_view name_of(Operation operation) noexcept;

/// The operation of that name, if there is one.
VICINAL_API std::optional<Operation> operation_named(std::string_view name) noexcept;

/// How a kernel cuts the token grid. All boxes are in positions inside one dilation phase, axes padded to rank 3.
struct Tiling {
  PerAxis<std::int64_t> query_tile{1, 1, 1};  ///< queries that share one softmax block; volume <= `rows`
  PerAxis<std::int64_t> key_tile{1, 1, 1};  ///< keys of one tile, laid from the corner of the halo; volume <= `columns`
  PerAxis<std::int64_t> block{1, 1, 1};     ///< query tiles of one work item, per axis
  std::int64_t rows = 1;                    ///< query slots computed per query tile, padding included
  std::int64_t columns = 1;                 ///< key slots computed per key tile, padding included

  friend bool operator==(const Tiling&, const Tiling&) = default;
};

/// What a plan is predicted to do. Multiply-adds are scalar ones; a score costs dim, its value dim_v.
struct Cost {
  double needed_multiply_adds = 0;   ///< by the definition of the problem
  double visited_multiply_adds = 0;  ///< by the kernel, masked and padded slots included
  double bytes = 0;                  ///< to and from memory, each tensor once
  double seconds = 0;                ///< the model's estimate, used to rank kernels on one machine
  double masked_multiply_adds = 0;   ///< of those visited: in key tiles that some query sees in part; 0: unknown
  double work_items = 0;             ///< that multiprocessors take one by one; 0: unknown
};

/// A kernel that could not be used, and why.
struct Refusal {
  std::string kernel;
  std::string reason;
};

/// What the caller may decide; everything else is the planner's choice.
struct PlanOptions {
  std::string backend;           ///< "fused", "reference", or one kernel, "fused_cpu_forward"; empty: the cheapest
  std::optional<Tiling> tiling;  ///< force the tile shapes
  bool deterministic = false;    ///< only kernels that give the same bits in every run
};

struct KernelRow;  // src/plan/registry.h

/// A decision, complete: which kernel, which tiles, how much workspace. Immutable and cheap to copy.
struct Plan {
  Problem problem;  ///< as asked
  Operation operation = Operation::forward;
  const KernelRow* kernel = nullptr;  ///< the chosen row of the registry
  Tiling tiling;
  Cost cost;
  std::size_t workspace_bytes = 0;  ///< that `run` needs from the caller; 64-byte aligned
  std::vector<Refusal> refusals;    ///< the other rows of the registry for this operation, and why not

  /// "fused_cpu", "reference", ...
  [[nodiscard]] VICINAL_API std::string_view kernel_name() const;

  /// A few lines for people: kernel, tiles, visited over needed, bytes, workspace, who copies tiles where a kernel has
  /// a choice, why the others refused.
  [[nodiscard]] VICINAL_API std::string explain() const;
};

/// Checks the rules of `Problem`, and for unfused operations also that dim_v equals dim and that the weights
/// [batch, *layout, heads, prod(window) + extra_kv] can be indexed. The reason names the argument, its value and what
/// is allowed.
VICINAL_API Status validate(const Problem& problem, Operation operation);

/// Validates and plans. Throws `Error` (invalid_argument, unsupported).
VICINAL_API Plan make_plan(const Problem& problem, Operation operation, const PlanOptions& options = {});

}  // namespace vicinal
