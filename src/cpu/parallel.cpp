#include "cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include <omp.h>
#include <pthread.h>

namespace vicinal::cpu {
namespace {

// libgomp keeps the threads of earlier parallel regions in a pool that belongs to the thread which started them. fork()
// copies that thread and its pool, but not the pool's threads, and the next parallel region of the child would wait for
// them forever. A thread born in the child has no such pool, so there the region runs from one.
thread_local bool pool_died_in_fork = false;

[[maybe_unused]] const int kForkHandlerInstalled = pthread_atfork(nullptr, nullptr, [] { pool_died_in_fork = true; });

using Body = std::function<void(std::int64_t item, int thread)>;

/// The first exception of a loop; the items that have not started by then are skipped.
class FirstException {
 public:
  [[nodiscard]] bool caught() const { return caught_.load(std::memory_order_relaxed); }

  void catch_current() {
    const std::lock_guard lock(mutex_);
    if (!exception_) exception_ = std::current_exception();
    caught_.store(true, std::memory_order_relaxed);
  }

  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::atomic<bool> caught_ = false;
  std::mutex mutex_;
  std::exception_ptr exception_;
};

void parallel_region(std::int64_t items, int threads, const Body& body, FirstException& exception) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::int64_t item = 0; item < items; ++item) {
    if (exception.caught()) continue;
    try {
      body(item, omp_get_thread_num());
    } catch (...) {
      exception.catch_current();
    }
  }
}

}  // namespace

int thread_count(int requested) { return requested > 0 ? requested : omp_get_max_threads(); }

void parallel_for(std::int64_t items, int threads, const Body& body) {
  const int team = static_cast<int>(std::min<std::int64_t>(thread_count(threads), items));
  if (team <= 1) {
    for (std::int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  FirstException exception;
  if (pool_died_in_fork) {
    std::thread(parallel_region, items, team, std::cref(body), std::ref(exception)).join();
  } else {
    parallel_region(items, team, body, exception);
  }
  exception.rethrow();
}

}  // namespace vicinal::cpu
