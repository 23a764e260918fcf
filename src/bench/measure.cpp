#include "bench/measure.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace vicinal::bench {
namespace {

std::int64_t now_nanoseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// Linear interpolation between the two nearest ranks of a sorted sample.
double quantile(const std::vector<double>& sorted, double fraction) {
  const double rank = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(rank);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

void WallClock::start() { start_nanoseconds_ = now_nanoseconds(); }

double WallClock::stop() { return static_cast<double>(now_nanoseconds() - start_nanoseconds_) * 1e-9; }

std::vector<double> measure_repetitions(const std::function<void(std::int64_t)>& body, const MeasureOptions& options,
                                        Clock& clock) {
  std::int64_t repetition = 0;
  const auto timed = [&] {
    clock.start();
    body(repetition++);
    return clock.stop();
  };
  double spent = 0;
  do {
    spent += timed();
  } while (spent < options.warmup_seconds);

  std::vector<double> seconds;
  spent = 0;
  while (true) {
    const auto count = static_cast<std::int64_t>(seconds.size());
    if (count >= options.max_repetitions) break;
    if (count >= options.min_repetitions && spent >= options.budget_seconds) break;
    seconds.push_back(timed());
    spent += seconds.back();
  }
  return seconds;
}

Timing timing_of(std::vector<double> seconds) {
  std::ranges::sort(seconds);
  const double median = quantile(seconds, 0.5);
  return {median, seconds.front(), (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / median,
          static_cast<std::int64_t>(seconds.size())};
}

Timing measure(const std::function<void(std::int64_t)>& body, const MeasureOptions& options, Clock& clock) {
  return timing_of(measure_repetitions(body, options, clock));
}

}  // namespace vicinal::bench
