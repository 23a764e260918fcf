#pragma once

// The choices that kernels made for earlier problems: a search for tiles takes longer than all else in a plan.

#include <cstddef>
#include <mutex>
#include <unordered_map>

#include "vicinal/plan.h"

namespace vicinal {

struct KernelRow;

/// What a row of the registry would do for a problem.
struct Choice {
  Tiling tiling;
  Cost cost;
};

/// Safe to use from many threads.
class PlanCache {
 public:
  /// Forgets everything when it holds `capacity` choices and another comes.
  explicit PlanCache(std::size_t capacity) : capacity_(capacity) {}

  /// The row's own tiling of a problem that it supports, and its cost. Asks the row where it was not asked before, on
  /// this device and with as many CPU threads. Several threads may ask it at once.
  Choice choice(const KernelRow& row, const Problem& grid);

  [[nodiscard]] std::size_t size();

 private:
  struct Key {
    const KernelRow* row;
    Problem grid;
    int threads;  ///< that a CPU kernel would use: its cost depends on them

    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const;
  };

  std::size_t capacity_;
  std::mutex mutex_;
  std::unordered_map<Key, Choice, Hash> choices_;
};

/// `make_plan` (vicinal/plan.h), which remembers choices in a cache of its own, with that of the caller.
Plan make_plan(PlanCache& cache, const Problem& problem, Operation operation, const PlanOptions& options = {});

}  // namespace vicinal
