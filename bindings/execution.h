#pragma once

// Where a call from Python runs.

#include <cstddef>
#include <memory>

#include <nanobind/nanobind.h>

#include "vicinal/attention.h"
#include "vicinal/plan.h"

namespace vicinal::python {

/// What Python calls `where`: for the CPU an int, the number of threads (0: as many as OpenMP would use); for a CUDA
/// device the tuple (stream, allocate), a cudaStream_t as an int and a function. allocate(bytes) returns an array, of a
/// kind that `tensor_of` reads, of at least so many bytes on the device; its memory may be used again by what is put on
/// the stream after the array is dropped.
class Place {
 public:
  /// Gets workspace for the plan. Throws `Error` where `where` is for another kind of device. Needs the GIL.
  Place(const Plan& plan, nanobind::handle where);

  [[nodiscard]] const Execution& execution() const { return execution_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> host_workspace_;
  nanobind::object device_workspace_;
  Execution execution_;
};

/// Runs a plan while other Python threads run too.
template <class Tensors>
void run_without_gil(const Plan& plan, const Tensors& tensors, nanobind::handle where) {
  const Place place(plan, where);
  const nanobind::gil_scoped_release released;
  run(plan, tensors, place.execution());
}

}  // namespace vicinal::python
