#include "check/device_run.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "cuda/memory.h"
#include "vicinal/error.h"

namespace vicinal::check {
namespace {

constexpr std::size_t kAlignment = 256;

/// Allocations are slow and runs are many: the largest so far is kept for the next, unless another run still has it.
std::shared_ptr<std::byte> device_memory(int device, std::size_t bytes) {
  struct Kept {
    int device = -1;
    std::size_t bytes = 0;
    std::shared_ptr<std::byte> memory;
  };
  thread_local Kept kept;
  if (kept.device != device || kept.bytes < bytes || kept.memory.use_count() > 1) {
    kept = {};  // frees before it allocates
    kept = {device, bytes + bytes / 2, cuda::allocate(device, bytes + bytes / 2)};
  }
  return kept.memory;
}

}  // namespace

void DeviceRun::add(std::span<std::byte> memory) {
  pieces_.push_back({memory, bytes_});
  bytes_ += (memory.size() + kAlignment - 1) / kAlignment * kAlignment;
}

void DeviceRun::begin() {
  if (on_host()) return;
  copy_ = device_memory(device_.index, bytes_);
  std::vector<std::byte> all(bytes_, std::byte{0xff});
  for (const Piece& piece : pieces_) {
    std::copy(piece.memory.begin(), piece.memory.end(), std::span(all).subspan(piece.offset).begin());
  }
  cuda::copy(device_.index, copy_.get(), all.data(), bytes_);
}

void DeviceRun::fill_shared_memory() const {
  if (on_host()) return;
  constexpr std::array<std::uint8_t, 4> kValues{0xff, 0x7b, 0x7b, 0xff};  // each on all multiprocessors and on few
  thread_local std::size_t runs = 0;
  cuda::fill_shared_memory(device_.index, kValues[runs++ % kValues.size()]);
}

void* DeviceRun::address(const void* host) const {
  const auto* place = static_cast<const std::byte*>(host);
  if (on_host()) return const_cast<std::byte*>(place);
  for (const Piece& piece : pieces_) {
    const std::byte* first = piece.memory.data();
    if (first <= place && place < first + piece.memory.size()) return copy_.get() + piece.offset + (place - first);
  }
  throw Error(ErrorKind::invalid_argument, "the address of a test tensor lies in no memory of the run");
}

Tensor DeviceRun::on_device(Tensor tensor) const {
  if (on_host() || !tensor.present()) return tensor;
  tensor.device = device_;
  const auto sizes = std::span(tensor.sizes).first(static_cast<std::size_t>(tensor.rank));
  const bool empty = std::find(sizes.begin(), sizes.end(), 0) != sizes.end();  // its address leads nowhere
  if (!empty) tensor.data = address(tensor.data);
  return tensor;
}

void DeviceRun::end() {
  if (on_host()) return;
  cuda::synchronize(device_.index);
  std::vector<std::byte> all(bytes_);
  cuda::copy(device_.index, all.data(), copy_.get(), bytes_);
  for (const Piece& piece : pieces_) {
    const std::span<std::byte> result = std::span(all).subspan(piece.offset, piece.memory.size());
    std::copy(result.begin(), result.end(), piece.memory.begin());
  }
}

}  // namespace vicinal::check
