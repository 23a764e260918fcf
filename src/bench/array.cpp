#include "bench/array.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/elements.h"
#include "cpu/parallel.h"
#include "cuda/memory.h"

namespace vicinal::bench {
namespace {

constexpr std::int64_t kChunk = 4096;  // elements converted at a time

std::uint64_t hash(std::uint64_t x) {  // splitmix64: a value for each index, so chunks can be filled in any order
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

}  // namespace

Buffer::Buffer(std::size_t bytes, const Device& device, std::size_t behind_line)
    : bytes_(bytes), behind_line_(behind_line) {
  bytes += behind_line;
  if (device.type == DeviceType::cpu) {
    lines_.resize((bytes + sizeof(Line) - 1) / sizeof(Line));
  } else {
    device_memory_ = cuda::allocate(device.index, bytes);
  }
}

Array::Array(std::vector<std::int64_t> extents, DType type, const Device& place, std::size_t behind_line)
    : shape(std::move(extents)),
      dtype(type),
      device(place),
      memory(static_cast<std::size_t>(elements()) * size_of(type), place, behind_line) {}

Array Array::copy_on(const Device& other, std::size_t behind_line) const {
  Array copy(shape, dtype, other, behind_line);
  if (other.type == DeviceType::cpu) {
    std::copy_n(memory.data(), memory.size(), copy.memory.data());
  } else {
    cuda::copy(other.index, copy.memory.data(), memory.data(), memory.size());
  }
  return copy;
}

std::int64_t Array::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

Array Array::as(DType other) const {
  Array result(shape, other);
  std::array<double, kChunk> values{};
  for (std::int64_t at = 0, count = elements(); at < count; at += kChunk) {
    const std::span chunk(values.data(), static_cast<std::size_t>(std::min(kChunk, count - at)));
    read_elements(memory.data(), dtype, at, chunk);
    write_elements(result.memory.data(), other, at, chunk);
  }
  return result;
}

void fill_random(Array& array, std::uint64_t seed, int threads) {
  const std::int64_t count = array.elements();
  const std::uint64_t stream = hash(seed);
  const double step = 2 * std::sqrt(3.0) / 9007199254740992.0;  // 2^53 values in [-sqrt(3), sqrt(3))
  cpu::parallel_for((count + kChunk - 1) / kChunk, cpu::thread_count(threads), [&](std::int64_t item, int) {
    const std::int64_t at = item * kChunk;
    std::array<double, kChunk> values{};
    const std::span chunk(values.data(), static_cast<std::size_t>(std::min(kChunk, count - at)));
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      const std::uint64_t bits = hash(stream + static_cast<std::uint64_t>(at) + i);
      chunk[i] = static_cast<double>(bits >> 11) * step - std::sqrt(3.0);
    }
    write_elements(array.memory.data(), array.dtype, at, chunk);
  });
}

}  // namespace vicinal::bench
