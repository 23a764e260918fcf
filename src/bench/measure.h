#pragma once

// How long something takes: warm-up, then as many repetitions as a time budget allows, and their median.

#include <cstdint>
#include <functional>
#include <vector>

#include "cuda/memory.h"

namespace vicinal::bench {

/// Times one span of work at a time. On the CPU that is the wall clock; a device's clock records events on its stream.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual void start() = 0;
  /// Seconds since `start`, once all work begun since then has ended.
  virtual double stop() = 0;
};

/// The wall clock: for work that has ended when the call that does it returns.
class WallClock final : public Clock {
 public:
  void start() override;
  double stop() override;

 private:
  std::int64_t start_nanoseconds_ = 0;
};

/// Events on the default stream of a CUDA device. Throws `Error` (system) where one cannot be made.
class DeviceClock final : public Clock {
 public:
  explicit DeviceClock(int device) : timer_(device) {}
  void start() override { timer_.start(nullptr); }
  double stop() override { return timer_.stop(nullptr); }

 private:
  cuda::Timer timer_;
};

struct MeasureOptions {
  double warmup_seconds = 0.1;          ///< repeat untimed at least once, and until this much time has passed
  double budget_seconds = 1.0;          ///< stop when the timed repetitions took this long,
  std::int64_t min_repetitions = 3;     ///< but not before these,
  std::int64_t max_repetitions = 1000;  ///< and at these at the latest
};

/// Quantiles of the repetitions, in seconds.
struct Timing {
  double median = 0;
  double fastest = 0;
  double spread = 0;  ///< interquartile range over the median: how noisy the machine was
  std::int64_t repetitions = 0;
};

/// Times body(repetition); repetitions count from 0 through warm-up and timing alike, so a body can rotate its inputs.
/// Requires min_repetitions >= 1. The result has the seconds of each timed repetition.
std::vector<double> measure_repetitions(const std::function<void(std::int64_t repetition)>& body,
                                        const MeasureOptions& options, Clock& clock);

/// The quantiles of at least one repetition.
Timing timing_of(std::vector<double> seconds);

/// The quantiles of the repetitions that `measure_repetitions` makes.
Timing measure(const std::function<void(std::int64_t repetition)>& body, const MeasureOptions& options, Clock& clock);

}  // namespace vicinal::bench
