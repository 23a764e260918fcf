#pragma once

// Memory and streams of a CUDA device, for tests, benchmarks and the command line, in code that includes no CUDA
// header. Kernels allocate nothing. Every function throws `Error`: system where CUDA reports a failure, unsupported in
// a build without CUDA.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "vicinal/tensor.h"

namespace vicinal::cuda {

/// Bytes on a device, freed with the last copy of the pointer; not initialised.
std::shared_ptr<std::byte> allocate(int device, std::size_t bytes);

/// Between host and device memory, in either direction, after everything that was started on the device before; what
/// any stream does next finds the bytes in place.
void copy(int device, void* to, const void* from, std::size_t bytes);

/// Sets every byte, after everything that was started before.
void fill(int device, void* memory, int value, std::size_t bytes);

/// Sets every byte of shared memory that a kernel may have on any multiprocessor, after everything that was started
/// before: what a later kernel finds in its own.
void fill_shared_memory(int device, std::uint8_t value);

/// Waits for everything that was started on the device. A kernel that failed is reported here.
void synchronize(int device);

/// A stream of its own, which does not wait for the default stream.
class Stream {
 public:
  explicit Stream(int device);

  /// A cudaStream_t, as Execution takes it.
  [[nodiscard]] void* get() const { return stream_.get(); }
  void synchronize() const;

  /// From here on, calls on this stream are recorded instead of run,
  void begin_capture() const;
  /// until here; what was recorded then runs once for each call of `replay`.
  void end_capture();
  void replay() const;

 private:
  std::shared_ptr<void> stream_;
  std::shared_ptr<void> graph_;  // a cudaGraphExec_t
};

/// Seconds between two places of a stream's work.
class Timer {
 public:
  explicit Timer(int device);

  void start(void* stream) const;
  /// Waits for the work since `start`.
  [[nodiscard]] double stop(void* stream) const;

 private:
  std::shared_ptr<void> begin_;  // a cudaEvent_t
  std::shared_ptr<void> end_;
};

}  // namespace vicinal::cuda
