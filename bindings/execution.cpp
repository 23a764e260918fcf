#include "execution.h"

#include <cstdint>
#include <new>

#include "arrays.h"
#include "vicinal/error.h"

namespace nb = nanobind;

namespace vicinal::python {
namespace {

constexpr std::align_val_t kAlignment{64};

}  // namespace

void Place::Free::operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }

Place::Place(const Plan& plan, nb::handle where) {
  const bool on_cpu = PyLong_Check(where.ptr());
  if (on_cpu != (plan.problem.device.type == DeviceType::cpu)) {
    throw Error(ErrorKind::invalid_argument,
                "where is for another kind of device than the tensors are on; allowed: "
                "threads for the CPU, (stream, allocate) for CUDA");
  }
  execution_.workspace_bytes = plan.workspace_bytes;
  if (on_cpu) {
    execution_.threads = nb::cast<int>(where);
    if (plan.workspace_bytes == 0) return;
    host_workspace_.reset(static_cast<std::byte*>(::operator new(plan.workspace_bytes, kAlignment)));
    execution_.workspace = host_workspace_.get();
    return;
  }
  const auto stream_and_allocate = nb::cast<nb::tuple>(where);
  execution_.stream = reinterpret_cast<void*>(nb::cast<std::uintptr_t>(stream_and_allocate[0]));
  if (plan.workspace_bytes == 0) return;
  device_workspace_ = stream_and_allocate[1](plan.workspace_bytes);
  execution_.workspace = tensor_of(device_workspace_, "workspace").data;
}

}  // namespace vicinal::python
