#include "cpu/parallel.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <omp.h>

namespace vicinal::cpu {
namespace {

using namespace std::chrono_literals;

TEST(Parallel, RunsEveryItemOnce) {
  for (const int threads : {0, 1, 2, 3, 7}) {
    for (const std::int64_t items : {0, 1, 2, 5, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(items));
      parallel_for(items, threads, [&](std::int64_t item, int) { ++runs[item]; });
      for (const auto& count : runs) EXPECT_EQ(count, 1);
    }
  }
}

TEST(Parallel, ThreadNumbersAreBelowTheCount) {
  std::atomic<int> largest = 0;
  parallel_for(200, 3, [&](std::int64_t, int thread) {
    int seen = largest;
    while (thread > seen && !largest.compare_exchange_weak(seen, thread)) {
    }
  });
  EXPECT_LT(largest, 3);
}

TEST(Parallel, NoTwoItemsShareAThreadNumberAtOnce) {
  std::vector<std::atomic<bool>> busy(4);
  std::atomic<bool> collision = false;
  parallel_for(200, 4, [&](std::int64_t, int thread) {
    if (busy[thread].exchange(true)) collision = true;
    std::this_thread::yield();
    busy[thread] = false;
  });
  EXPECT_FALSE(collision);
}

TEST(Parallel, CountsThreadsAsAskedOrAsOpenMpWould) {
  EXPECT_EQ(thread_count(5), 5);
  const int before = omp_get_max_threads();
  omp_set_num_threads(3);
  EXPECT_EQ(thread_count(0), 3);
  omp_set_num_threads(before);
}

TEST(Parallel, RethrowsTheExceptionOfABody) {
  for (const int threads : {1, 4}) {
    EXPECT_THROW(parallel_for(100, threads,
                              [](std::int64_t item, int) {
                                if (item == 37) throw std::out_of_range("37");
                              }),
                 std::out_of_range);
  }
}

TEST(Parallel, RunsInsideAParallelRegion) {
  std::atomic<int> runs = 0;
  parallel_for(4, 2, [&](std::int64_t, int) { parallel_for(10, 2, [&](std::int64_t, int) { ++runs; }); });
  EXPECT_EQ(runs, 40);
}

/// The exit status of `body` in a forked child; -1 where it had to be ended because it hung.
int exit_status_of_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (std::chrono::steady_clock::now() < deadline) {
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
    std::this_thread::sleep_for(5ms);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return -1;
}

/// A loop that needs two threads at the same time: each of its two items waits for the other to start.
bool two_threads_meet() {
  std::atomic<int> started = 0;
  std::atomic<bool> met = true;
  parallel_for(2, 2, [&](std::int64_t, int) {
    ++started;
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (started < 2) {
      if (std::chrono::steady_clock::now() > deadline) {
        met = false;
        return;
      }
      std::this_thread::yield();
    }
  });
  return met;
}

TEST(ParallelAfterFork, TheChildOfAProcessThatUsedThreadsCanUseThem) {
  ASSERT_TRUE(two_threads_meet());
  EXPECT_EQ(exit_status_of_child([] { return two_threads_meet() && two_threads_meet(); }), 0);
  EXPECT_TRUE(two_threads_meet()) << "in the parent";
}

TEST(ParallelAfterFork, SoCanTheGrandchild) {
  ASSERT_TRUE(two_threads_meet());
  EXPECT_EQ(exit_status_of_child([] { return two_threads_meet() && exit_status_of_child(two_threads_meet) == 0; }), 0);
}

TEST(ParallelAfterFork, ExceptionsReachTheCaller) {
  ASSERT_TRUE(two_threads_meet());
  EXPECT_EQ(exit_status_of_child([] {
              try {
                parallel_for(10, 2, [](std::int64_t, int) { throw std::runtime_error("from an item"); });
              } catch (const std::runtime_error&) {
                return true;
              }
              return false;
            }),
            0);
}

}  // namespace
}  // namespace vicinal::cpu
