#pragma once

// Parallel loops over work items on the CPU: OpenMP, safe after fork.

#include <cstdint>
#include <functional>

namespace vicinal::cpu {

/// How many threads a loop would use when the caller asks for `requested` (0: as many as OpenMP would).
int thread_count(int requested);

/// Calls body(item, thread) for every item in [0, items), each once, with dynamic scheduling over `threads` threads;
/// thread is in [0, threads). An exception thrown by a body is rethrown here after the loop.
void parallel_for(std::int64_t items, int threads, const std::function<void(std::int64_t item, int thread)>& body);

}  // namespace vicinal::cpu
