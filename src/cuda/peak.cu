#include "cuda/peak.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "cuda/memory.h"
#include "vicinal/error.h"

namespace vicinal::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSteps = 4096;
constexpr int kTrials = 10;

// Independent chains of operations hide the latency of each. What they compute is written only where it is NaN, which
// the compiler cannot know to be never.
template <class Number>
__global__ void __launch_bounds__(kThreads) multiply_add_chains(Number* sink) {
  constexpr int kChains = 8;
  Number chains[kChains];
  for (int c = 0; c < kChains; ++c) chains[c] = static_cast<Number>(threadIdx.x + c);
  const auto half = static_cast<Number>(0.5);
  for (int step = 0; step < kSteps; ++step) {
    for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * half + half;
  }
  Number sum = 0;
  for (int c = 0; c < kChains; ++c) sum += chains[c];
  if (sum != sum) *sink = sum;
}
constexpr double kMultiplyAddsOfThread = 8.0 * kSteps;

__global__ void __launch_bounds__(kThreads) matrix_chains(float* sink) {
  constexpr int kChains = 8;
  float sums[kChains][4] = {};
  // Pairs of fp16 numbers between 1 and 2 with mixed bits: zeros would draw less power.
  const std::uint32_t bits = 0x3c003c00u | ((threadIdx.x * 0x9e3779b9u) & 0x03ff03ffu);
  const std::uint32_t a[4] = {bits, bits ^ 0x01230123u, bits ^ 0x02100210u, bits ^ 0x00550055u};
  const std::uint32_t b[2] = {bits ^ 0x03330333u, bits ^ 0x00780078u};
  for (int step = 0; step < kSteps; ++step) {
    for (int c = 0; c < kChains; ++c) {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(sums[c][0]), "+f"(sums[c][1]), "+f"(sums[c][2]), "+f"(sums[c][3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += sums[c][0] + sums[c][1] + sums[c][2] + sums[c][3];
  if (sum != sum) *sink = sum;
}
constexpr double kMatrixMultiplyAddsOfThread = 8.0 * kSteps * (16 * 8 * 16) / 32;

void require(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw Error(ErrorKind::system, std::string(what) + " failed: " + cudaGetErrorString(status));
}

/// Seconds of the fastest trial.
template <class Work>
double fastest_seconds(int device, Work work) {
  const Timer timer(device);
  double fastest = std::numeric_limits<double>::infinity();
  for (int trial = 0; trial < kTrials; ++trial) {
    timer.start(nullptr);
    work();
    fastest = std::min(fastest, timer.stop(nullptr));
  }
  return fastest;
}

template <class Number>
double rate(int device, void (*kernel)(Number*), double work_of_thread) {
  int multiprocessors = 0;
  require(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "asking for attributes");
  const std::shared_ptr<std::byte> sink = allocate(device, sizeof(Number));
  const int blocks = multiprocessors * 16;
  const double seconds = fastest_seconds(device, [&] {
    kernel<<<blocks, kThreads>>>(reinterpret_cast<Number*>(sink.get()));
    require(cudaPeekAtLastError(), "launching a measurement");
  });
  return work_of_thread * blocks * kThreads / seconds;
}

double copy_bandwidth(int device) {
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  const std::shared_ptr<std::byte> from = allocate(device, kBytes), to = allocate(device, kBytes);
  fill(device, from.get(), 1, kBytes);
  const double seconds = fastest_seconds(device, [&] {
    require(cudaMemcpyAsync(to.get(), from.get(), kBytes, cudaMemcpyDeviceToDevice, nullptr), "copying");
  });
  return 2.0 * kBytes / seconds;
}

}  // namespace

Peak measure_peak(int device) {
  return {.bytes_per_second = copy_bandwidth(device),
          .matrix_multiply_adds_16 = rate<float>(device, matrix_chains, kMatrixMultiplyAddsOfThread),
          .multiply_adds_32 = rate<float>(device, multiply_add_chains<float>, kMultiplyAddsOfThread),
          .multiply_adds_64 = rate<double>(device, multiply_add_chains<double>, kMultiplyAddsOfThread)};
}

}  // namespace vicinal::cuda
