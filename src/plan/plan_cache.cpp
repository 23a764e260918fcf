#include "plan/plan_cache.h"

#include <cstdint>
#include <functional>
#include <optional>

#include "cpu/parallel.h"
#include "plan/registry.h"

namespace vicinal {

std::size_t PlanCache::Hash::operator()(const Key& key) const {
  std::uint64_t hash = std::hash<const KernelRow*>()(key.row);
  const auto add = [&](auto value) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 32;
  };
  const Problem& grid = key.grid;
  for (int a = 0; a < 3; ++a) {
    add(grid.layout[a]);
    add(grid.window[a]);
    add(grid.stride[a]);
    add(grid.dilation[a]);
    add(grid.causal[a]);
  }
  for (const std::int64_t size : {grid.batch, grid.heads, grid.heads_kv, grid.dim, grid.dim_v, grid.extra_kv})
    add(size);
  add(std::hash<std::optional<double>>()(grid.scale));
  add(grid.dtype);
  add(grid.device.type);
  add(grid.device.index);
  add(grid.alignment);
  add(key.threads);
  return hash;
}

Choice PlanCache::choice(const KernelRow& row, const Problem& grid) {
  const Key key{&row, grid, cpu::thread_count(0)};
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = choices_.find(key); found != choices_.end()) return found->second;
  }
  const Tiling tiling = row.tiling(grid);
  const Choice choice{tiling, row.cost(grid, tiling)};
  const std::lock_guard lock(mutex_);
  if (choices_.size() >= capacity_) choices_.clear();
  choices_.emplace(key, choice);
  return choice;
}

std::size_t PlanCache::size() {
  const std::lock_guard lock(mutex_);
  return choices_.size();
}

}  // namespace vicinal
