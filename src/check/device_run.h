#pragma once

// Test tensors and workspace in the memory of a GPU for one run.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "check/passes.h"
#include "plan/registry.h"
#include "vicinal/attention.h"
#include "vicinal/tensor.h"

namespace vicinal::check {

/// Copies host memory to a device with all its poison, and brings everything back, so that whatever a kernel wrote
/// anywhere in it is seen. On the CPU it does nothing, and addresses are what they are.
class DeviceRun {
 public:
  explicit DeviceRun(const Device& device) : device_(device) {}

  /// Memory that the run may touch. All of it must be added before `begin`.
  void add(std::span<std::byte> memory);
  /// Copies to the device.
  void begin();
  /// Sets what a kernel finds in shared memory: NaN, or numbers larger than any that it should know, in turn.
  void fill_shared_memory() const;
  /// The address on the device of a place in memory that was added.
  [[nodiscard]] void* address(const void* host) const;
  /// A tensor in memory that was added, on the device.
  [[nodiscard]] Tensor on_device(Tensor tensor) const;
  /// Waits for the run and copies back.
  void end();

 private:
  [[nodiscard]] bool on_host() const { return device_.type == DeviceType::cpu; }

  struct Piece {
    std::span<std::byte> memory;
    std::size_t offset;
  };

  Device device_;
  std::vector<Piece> pieces_;
  std::size_t bytes_ = 0;
  std::shared_ptr<std::byte> copy_;
};

/// Runs a plan on tensors that lie in `memory`, or on copies of it where the plan is for a GPU. `workspace` begins at a
/// multiple of 64 bytes and may be larger than the plan asks for.
template <class Tensors>
void run_anywhere(const Plan& plan, Tensors tensors, const std::vector<std::span<std::byte>>& memory,
                  std::span<std::byte> workspace, int threads) {
  DeviceRun run(plan.problem.device);
  for (const std::span<std::byte> piece : memory) run.add(piece);
  run.add(workspace);
  run.begin();
  if (plan.kernel->backend == "fused") run.fill_shared_memory();
  for (const auto& spec : Pass<Tensors>::kInputs) tensors.*spec.tensor = run.on_device(tensors.*spec.tensor);
  for (const auto& spec : Pass<Tensors>::kResults) tensors.*spec.tensor = run.on_device(tensors.*spec.tensor);
  vicinal::run(
      plan, tensors,
      {.workspace = run.address(workspace.data()), .workspace_bytes = plan.workspace_bytes, .threads = threads});
  run.end();
}

}  // namespace vicinal::check
