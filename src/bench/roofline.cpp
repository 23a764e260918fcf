// Compiled once per SIMD target of Highway, which includes this file again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/roofline.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include <cstddef>
#include <cstdint>
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace vicinal::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Independent chains hide the latency of a multiply-add: 12 and two constants fill the 16 registers of AVX2, and cores
// with 32 registers may have four pipes with a latency of four.
#if HWY_ARCH_X86
constexpr std::size_t kChains = 12;
#else
constexpr std::size_t kChains = 24;
#endif

template <class V, class... Chain>
V run_chains(std::int64_t steps, V factor, V term, Chain... chain) {
  for (std::int64_t i = 0; i < steps; ++i) ((chain = hn::MulAdd(chain, factor, term)), ...);
  V sum = term;
  ((sum = hn::Add(sum, chain)), ...);
  return sum;
}

template <class Scalar, std::size_t... I>
double multiply_adds(std::int64_t steps, std::index_sequence<I...>, Scalar& sink) {
  const hn::ScalableTag<Scalar> tag;
  const auto half = hn::Set(tag, Scalar{0.5});  // chains converge to 1: neither overflow nor subnormals
  sink = hn::GetLane(run_chains(steps, half, half, hn::Set(tag, static_cast<Scalar>(I))...));
  return static_cast<double>(steps) * static_cast<double>(kChains * hn::Lanes(tag));
}

double multiply_adds_32(std::int64_t steps, float& sink) {
  return multiply_adds(steps, std::make_index_sequence<kChains>(), sink);
}

double multiply_adds_64(std::int64_t steps, double& sink) {
#if HWY_HAVE_FLOAT64
  return multiply_adds(steps, std::make_index_sequence<kChains>(), sink);
#else
  for (std::int64_t i = 0; i < steps; ++i) sink = sink * 0.5 + 0.5;
  return static_cast<double>(steps);
#endif
}

}  // namespace vicinal::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "bench/roofline.h"
#include "cpu/parallel.h"
#include "cuda/peak.h"

namespace vicinal::bench {
namespace {

HWY_EXPORT(multiply_adds_32);
HWY_EXPORT(multiply_adds_64);

using Instant = std::chrono::steady_clock::time_point;

// Several items a thread, so that one that is held up leaves its share to the others.
constexpr std::int64_t kItemsPerThread = 8;

/// Seconds from the begin of the first item to the end of the last one, in the fastest of many short trials: what the
/// machine does when nothing else runs. Threads that wake up late or leave late are none of it.
template <class Work>
double fastest_seconds(int trials, int threads, Work work) {
  const std::int64_t items = kItemsPerThread * threads;
  std::vector<Instant> begins(static_cast<std::size_t>(items));
  std::vector<Instant> ends(begins.size());
  double fastest = std::numeric_limits<double>::infinity();
  for (int trial = 0; trial < trials; ++trial) {
    cpu::parallel_for(items, threads, [&](std::int64_t item, int) {
      const auto i = static_cast<std::size_t>(item);
      begins[i] = std::chrono::steady_clock::now();
      work(i);
      ends[i] = std::chrono::steady_clock::now();
    });
    const std::chrono::duration<double> span =
        *std::max_element(ends.begin(), ends.end()) - *std::min_element(begins.begin(), begins.end());
    fastest = std::min(fastest, span.count());
  }
  return fastest;
}

template <class Scalar, class Kernel>
double peak_multiply_adds(int threads, Kernel kernel) {
  constexpr std::int64_t kSteps = 20'000;
  std::vector<double> done(static_cast<std::size_t>(kItemsPerThread * threads));
  std::vector<Scalar> sinks(done.size());
  const double seconds =
      fastest_seconds(400, threads, [&](std::size_t item) { done[item] = kernel(kSteps, sinks[item]); });
  return std::accumulate(done.begin(), done.end(), 0.0) / seconds;
}

double copy_bandwidth(int threads) {
  const std::size_t bytes = std::max<std::size_t>(4 * last_level_cache_bytes(), std::size_t{64} << 20);
  const std::size_t items = static_cast<std::size_t>(kItemsPerThread * threads);
  const std::size_t chunk = bytes / items;
  const std::unique_ptr<std::byte[]> from(new std::byte[bytes]);
  const std::unique_ptr<std::byte[]> to(new std::byte[bytes]);
  std::memset(from.get(), 1, bytes);  // map the pages before the clock runs
  std::memset(to.get(), 0, bytes);
  const double seconds = fastest_seconds(
      20, threads, [&](std::size_t item) { std::memcpy(to.get() + item * chunk, from.get() + item * chunk, chunk); });
  return 2.0 * static_cast<double>(chunk * items) / seconds;
}

}  // namespace

double Roofline::floor_seconds(const Cost& cost, DType dtype) const {
  return std::max(cost.needed_multiply_adds / multiply_adds_per_second(dtype), cost.bytes / bytes_per_second);
}

Roofline measure_cpu_roofline(int threads) {
  const int count = cpu::thread_count(threads);
  const double rate = peak_multiply_adds<float>(count, HWY_DYNAMIC_DISPATCH(multiply_adds_32));
  return {.bytes_per_second = copy_bandwidth(count),
          .multiply_adds_per_second_16 = rate,
          .multiply_adds_per_second_32 = rate,
          .multiply_adds_per_second_64 = peak_multiply_adds<double>(count, HWY_DYNAMIC_DISPATCH(multiply_adds_64))};
}

Roofline measure_cuda_roofline(int device) {
  const cuda::Peak peak = cuda::measure_peak(device);
  return {.bytes_per_second = peak.bytes_per_second,
          .multiply_adds_per_second_16 = peak.matrix_multiply_adds_16,
          .multiply_adds_per_second_32 = peak.multiply_adds_32,
          .multiply_adds_per_second_64 = peak.multiply_adds_64};
}

std::size_t last_level_cache_bytes() {
  for (const int level : {_SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE}) {
    if (const long bytes = sysconf(level); bytes > 0) return static_cast<std::size_t>(bytes);
  }
  return std::size_t{32} << 20;  // the system does not say: more than most
}

}  // namespace vicinal::bench
#endif  // HWY_ONCE
