#include "cuda/memory.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "vicinal/error.h"

namespace vicinal::cuda {
namespace {

void require(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw Error(ErrorKind::system,
              what + " failed: " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) + ")");
}

constexpr int kFillThreads = 256;

__global__ void __launch_bounds__(kFillThreads) fill_kernel(std::uint32_t word, int words) {
  extern __shared__ std::uint32_t memory[];
  for (int i = static_cast<int>(threadIdx.x); i < words; i += kFillThreads) {
    static_cast<volatile std::uint32_t*>(memory)[i] = word;  // though nobody reads it here
  }
}

void use(int device) { require(cudaSetDevice(device), "choosing CUDA device " + std::to_string(device)); }

}  // namespace

std::shared_ptr<std::byte> allocate(int device, std::size_t bytes) {
  use(device);
  void* memory = nullptr;
  require(cudaMalloc(&memory, bytes > 0 ? bytes : 1), "allocating " + std::to_string(bytes) + " bytes on the device");
  return {static_cast<std::byte*>(memory), [](std::byte* address) { cudaFree(address); }};
}

void copy(int device, void* to, const void* from, std::size_t bytes) {
  const std::string what = "copying " + std::to_string(bytes) + " bytes";
  synchronize(device);
  require(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), what);
  // From pageable memory it returns when all bytes are staged, some still on their way; streams that do not wait for
  // the default stream would read what was there before.
  require(cudaDeviceSynchronize(), what);
}

void fill(int device, void* memory, int value, std::size_t bytes) {
  synchronize(device);
  require(cudaMemset(memory, value, bytes), "filling " + std::to_string(bytes) + " bytes");
  require(cudaDeviceSynchronize(), "filling " + std::to_string(bytes) + " bytes");
}

void fill_shared_memory(int device, std::uint8_t value) {
  constexpr int kRounds = 2;  // as blocks may come to multiprocessors unevenly
  const std::string what = "filling shared memory";
  synchronize(device);
  int bytes = 0;
  int multiprocessors = 0;
  require(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), what);
  require(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), what);
  require(cudaFuncSetAttribute(fill_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), what);
  const int words = bytes / static_cast<int>(sizeof(std::uint32_t));
  fill_kernel<<<kRounds * multiprocessors, kFillThreads, bytes>>>(0x01010101U * value, words);
  require(cudaPeekAtLastError(), what);
  require(cudaDeviceSynchronize(), what);
}

void synchronize(int device) {
  use(device);
  require(cudaDeviceSynchronize(), "work on CUDA device " + std::to_string(device));
}

Stream::Stream(int device) {
  use(device);
  cudaStream_t stream = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  stream_ = {stream, [](void* handle) { cudaStreamDestroy(static_cast<cudaStream_t>(handle)); }};
}

void Stream::synchronize() const {
  require(cudaStreamSynchronize(static_cast<cudaStream_t>(get())), "work on a stream");
}

void Stream::begin_capture() const {
  require(cudaStreamBeginCapture(static_cast<cudaStream_t>(get()), cudaStreamCaptureModeGlobal), "beginning a capture");
}

void Stream::end_capture() {
  cudaGraph_t graph = nullptr;
  require(cudaStreamEndCapture(static_cast<cudaStream_t>(get()), &graph), "ending a capture");
  cudaGraphExec_t executable = nullptr;
  require(cudaGraphInstantiate(&executable, graph, 0), "making a graph");
  graph_ = {executable, [](void* handle) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(handle)); }};
  require(cudaGraphDestroy(graph), "freeing a graph");
}

void Stream::replay() const {
  require(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_.get()), static_cast<cudaStream_t>(get())),
          "launching a graph");
}

Timer::Timer(int device) {
  use(device);
  for (std::shared_ptr<void>* place : {&begin_, &end_}) {
    cudaEvent_t event = nullptr;
    require(cudaEventCreate(&event), "making an event");
    *place = {event, [](void* handle) { cudaEventDestroy(static_cast<cudaEvent_t>(handle)); }};
  }
}

void Timer::start(void* stream) const {
  require(cudaEventRecord(static_cast<cudaEvent_t>(begin_.get()), static_cast<cudaStream_t>(stream)),
          "recording an event");
}

double Timer::stop(void* stream) const {
  const auto begin = static_cast<cudaEvent_t>(begin_.get()), end = static_cast<cudaEvent_t>(end_.get());
  require(cudaEventRecord(end, static_cast<cudaStream_t>(stream)), "recording an event");
  require(cudaEventSynchronize(end), "the measured work");
  float milliseconds = 0;
  require(cudaEventElapsedTime(&milliseconds, begin, end), "reading an event");
  return 1e-3 * static_cast<double>(milliseconds);
}

}  // namespace vicinal::cuda
