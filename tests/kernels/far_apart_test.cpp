// Tensors whose elements are more than 2^31 elements apart along every dimension: offsets that pass through 32 bits
// anywhere read or write somewhere else. On the CPU their memory is reserved but, but for a few pages, never touched;
// on a GPU they lie in the gaps of each other.

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "check/device_run.h"
#include "check/random.h"
#include "core/elements.h"
#include "core/slots.h"
#include "core/tensors.h"
#include "cuda/devices.h"
#include "cuda/memory.h"
#include "rows.h"
#include "vicinal/attention.h"
#include "vicinal/unfused.h"

namespace vicinal {
namespace {

constexpr std::int64_t kFar = (std::int64_t{1} << 31) + 16 * 1024;

/// Address space without memory: pages come into being when they are touched.
std::shared_ptr<void> reserve(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return {memory, [bytes](void* address) { munmap(address, bytes); }};
}

// On a GPU: bytes of the memory that all tensors share, and of the part of it that one row of each tensor gets. Gaps of
// tensors of smaller elements are shorter, but those of larger ones are multiples of them.
constexpr std::int64_t kFarSteps = 8;
constexpr std::size_t kArenaBytes = kFarSteps * kFar * sizeof(float);
constexpr std::size_t kRowPitchBytes = 512 * sizeof(float);

/// Owns the memory of contiguous tensors on the CPU and of their copies with far strides, where a plan runs.
class Memory {
 public:
  explicit Memory(const Device& device) : device_(device) {}

  Tensor random(const std::vector<std::int64_t>& sizes, DType dtype) {
    const auto count = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& value : values) value = 2 * random_.unit() - 1;
    std::vector<std::byte>& memory = near_.emplace_back(values.size() * size_of(dtype));
    write_elements(memory.data(), dtype, 0, values);
    return contiguous(memory.data(), sizes, dtype);
  }

  /// The same values in rows that lie far apart.
  Tensor far_copy(const Tensor& tensor, int row_dimensions) {
    Tensor copy = tensor;
    if (on_gpu()) {  // of large tensors, more dimensions than one stay dense, so that they fit
      while (outer_size(tensor, row_dimensions) > kFarSteps) ++row_dimensions;
    }
    std::int64_t stride = kFar;
    for (int d = tensor.rank - row_dimensions - 1; d >= 0; --d) {
      copy.strides[d] = stride;
      stride *= copy.sizes[d];
    }
    copy.device = device_;
    copy.data = memory_for(static_cast<std::size_t>(stride) * size_of(tensor.dtype));
    for_each_element(copy, [&](std::int64_t i, std::int64_t offset) {
      move(element(copy, offset), element(tensor, i), size_of(tensor.dtype));
    });
    return copy;
  }

  [[nodiscard]] bool same_bits(const Tensor& near, const Tensor& far) const {
    bool same = true;
    for_each_element(far, [&](std::int64_t i, std::int64_t offset) {
      std::array<std::byte, sizeof(double)> value{};
      move(value.data(), element(far, offset), size_of(far.dtype));
      same = same && std::memcmp(value.data(), element(near, i), size_of(far.dtype)) == 0;
    });
    return same;
  }

  /// Runs a plan on contiguous tensors.
  template <class Tensors>
  void run_near(const Plan& plan, const Tensors& tensors) {
    std::vector<std::span<std::byte>> memory;
    memory.reserve(near_.size());
    for (std::vector<std::byte>& values : near_) memory.emplace_back(values);
    check::run_anywhere(plan, tensors, memory, Workspace(plan).memory(), 0);
  }

  /// Runs it on far copies.
  template <class Tensors>
  void run_far(const Plan& plan, const Tensors& tensors) const {
    Workspace here(plan);
    void* workspace = here.memory().data();
    std::shared_ptr<std::byte> there;
    if (on_gpu()) {
      there = cuda::allocate(device_.index, plan.workspace_bytes);
      workspace = there.get();
    }
    run(plan, tensors, {.workspace = workspace, .workspace_bytes = plan.workspace_bytes});
    if (on_gpu()) cuda::synchronize(device_.index);
  }

 private:
  [[nodiscard]] bool on_gpu() const { return device_.type == DeviceType::cuda; }

  static std::int64_t outer_size(const Tensor& tensor, int row_dimensions) {
    return std::accumulate(tensor.sizes.begin(), tensor.sizes.begin() + tensor.rank - row_dimensions, std::int64_t{1},
                           std::multiplies<>());
  }

  void* memory_for(std::size_t bytes) {
    if (!on_gpu()) return far_.emplace_back(reserve(bytes)).get();
    if (arena_ == nullptr) arena_ = cuda::allocate(device_.index, kArenaBytes);
    return arena_.get() + kRowPitchBytes * in_arena_++;
  }

  static std::byte* element(const Tensor& tensor, std::int64_t offset) {
    return static_cast<std::byte*>(tensor.data) + offset * static_cast<std::int64_t>(size_of(tensor.dtype));
  }

  void move(std::byte* to, const std::byte* from, std::size_t bytes) const {
    if (on_gpu()) {
      cuda::copy(device_.index, to, from, bytes);
    } else {
      std::memcpy(to, from, bytes);
    }
  }

  /// Calls visit(index in contiguous order, offset by the strides).
  template <class Visit>
  static void for_each_element(const Tensor& tensor, Visit visit) {
    const auto count =
        std::accumulate(tensor.sizes.begin(), tensor.sizes.begin() + tensor.rank, std::int64_t{1}, std::multiplies<>());
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t offset = 0;
      for (std::int64_t d = tensor.rank - 1, rest = i; d >= 0; rest /= tensor.sizes[d--]) {
        offset += rest % tensor.sizes[d] * tensor.strides[d];
      }
      visit(i, offset);
    }
  }

  Device device_;
  check::Random random_{11};
  std::vector<std::vector<std::byte>> near_;
  std::vector<std::shared_ptr<void>> far_;  // on the CPU
  std::shared_ptr<std::byte> arena_;        // on a GPU
  std::size_t in_arena_ = 0;
};

/// Runs on contiguous tensors and on far copies, and compares the results named by `results`.
template <class Tensors>
void expect_same_results(const Plan& plan, Memory& memory, const Tensors& near,
                         const std::vector<Tensor Tensors::*>& inputs, const std::vector<Tensor Tensors::*>& results,
                         bool heads_apart = true) {
  Tensors far;
  const auto copy = [&](Tensor Tensors::* member) {
    const Tensor& tensor = near.*member;
    const bool has_rows = tensor.present() && tensor.sizes[tensor.rank - 1] == plan.problem.dim;
    const int together = (has_rows ? 1 : 0) + (heads_apart ? 0 : 1);
    if (tensor.present()) far.*member = memory.far_copy(tensor, together);
  };
  for (const auto member : inputs) copy(member);
  for (const auto member : results) copy(member);
  memory.run_near(plan, near);
  memory.run_far(plan, far);
  for (const auto member : results) {
    if (!(near.*member).present()) continue;
    EXPECT_TRUE(memory.same_bits(near.*member, far.*member)) << to_string(plan.problem);
  }
}

/// `p` has as many slots as its head dim, so that weights are rows too.
void check_unfused_far_apart(Operation operation, const Problem& p, const Plan& plan, Memory& memory) {
  const auto grid = [&](std::int64_t heads) {
    return memory.random({p.batch, p.layout[0], p.layout[1], p.layout[2], heads, p.dim}, p.dtype);
  };
  const auto extra = [&] {
    return p.extra_kv > 0 ? memory.random({p.batch, p.extra_kv, p.heads_kv, p.dim}, p.dtype) : Tensor{};
  };
  const auto bias = [&] {
    return memory.random({p.heads, 2 * p.window[0] - 1, 2 * p.window[1] - 1, 2 * p.window[2] - 1}, p.dtype);
  };
  ASSERT_EQ(slots_per_query(p), p.dim);
  if (operation == Operation::pointwise_neighborhood) {
    using T = PointwiseNeighborhoodTensors;
    expect_same_results<T>(plan, memory, {grid(p.heads), grid(p.heads_kv), extra(), bias(), grid(p.heads)},
                           {&T::query, &T::key, &T::extra_key, &T::bias}, {&T::weights});
  } else if (operation == Operation::neighborhood_neighborhood) {
    using T = NeighborhoodNeighborhoodTensors;
    expect_same_results<T>(plan, memory, {grid(p.heads), grid(p.heads_kv), extra(), grid(p.heads)},
                           {&T::weights, &T::value, &T::extra_value}, {&T::output});
  } else if (operation == Operation::inverse_neighborhood) {
    using T = InverseNeighborhoodTensors;
    expect_same_results<T>(plan, memory, {grid(p.heads), grid(p.heads), grid(p.heads_kv), extra()},
                           {&T::weights, &T::grad_output}, {&T::grad_value, &T::grad_extra_value});
  } else {
    using T = BiasGradientTensors;
    expect_same_results<T>(plan, memory, {grid(p.heads), bias()}, {&T::grad_weights}, {&T::grad_bias});
  }
}

void check_far_apart(const KernelRow& kernel, const Problem& p, bool heads_apart = true) {
  Memory memory(p.device);
  const auto grid = [&](std::int64_t heads, bool rows) {
    std::vector<std::int64_t> sizes{p.batch, p.layout[0], p.layout[1], p.layout[2], heads};
    if (rows) sizes.push_back(p.dim);
    return memory.random(sizes, rows ? p.dtype : logsumexp_dtype(p.dtype));
  };
  const auto extra = [&] {
    return p.extra_kv > 0 ? memory.random({p.batch, p.extra_kv, p.heads_kv, p.dim}, p.dtype) : Tensor{};
  };
  const Plan plan = make_plan(p, kernel.operation, {.backend = std::string(kernel.name), .tiling = {}});
  if (kernel.operation == Operation::forward) {
    using T = ForwardTensors;
    const T near{grid(p.heads, true), grid(p.heads_kv, true), grid(p.heads_kv, true), extra(), extra(),
                 grid(p.heads, true), grid(p.heads, false)};
    expect_same_results<T>(plan, memory, near, {&T::query, &T::key, &T::value, &T::extra_key, &T::extra_value},
                           {&T::output, &T::logsumexp}, heads_apart);
    return;
  }
  if (is_unfused(kernel.operation)) {
    check_unfused_far_apart(kernel.operation, p, plan, memory);
    return;
  }
  using T = BackwardTensors;
  const T near{.query = grid(p.heads, true),
               .key = grid(p.heads_kv, true),
               .value = grid(p.heads_kv, true),
               .extra_key = extra(),
               .extra_value = extra(),
               .output = grid(p.heads, true),
               .logsumexp = grid(p.heads, false),
               .grad_output = grid(p.heads, true),
               .grad_logsumexp = grid(p.heads, false),
               .grad_query = grid(p.heads, true),
               .grad_key = grid(p.heads_kv, true),
               .grad_value = grid(p.heads_kv, true),
               .grad_extra_key = extra(),
               .grad_extra_value = extra()};
  expect_same_results<T>(plan, memory, near,
                         {&T::query, &T::key, &T::value, &T::extra_key, &T::extra_value, &T::output, &T::logsumexp,
                          &T::grad_output, &T::grad_logsumexp},
                         {&T::grad_query, &T::grad_key, &T::grad_value, &T::grad_extra_key, &T::grad_extra_value},
                         heads_apart);
}

using FarApart = EveryKernel;

TEST_P(FarApart, OffsetsDoNotPassThroughThirtyTwoBits) {
  const KernelRow& kernel = *GetParam();
  Problem p;
  p.rank = 3;
  p.device.type = kernel.device;
  p.dtype = supports_usual(kernel, DType::fp32).ok() ? DType::fp32 : DType::fp16;
  if (kernel.device == DeviceType::cuda && cuda::devices().front().memory_bytes < kArenaBytes * 9 / 8) {
    GTEST_SKIP() << "this device has too little memory for tensors that reach beyond 2^31 elements";
  }
  if (is_unfused(kernel.operation) && is_special(kernel)) {
    p.batch = 2, p.layout = p.window = {1, 4, 8}, p.dim = p.dim_v = slots_per_query(p);
    check_far_apart(kernel, p);
    return;
  }
  p.extra_kv = takes_extra_tokens(kernel) ? 2 : 0;
  // Two of each dimension, in two problems: all at once would need more than the address space of a sanitizer.
  p.batch = 1, p.heads = 2, p.heads_kv = 2, p.layout = p.window = {2, 1, 2};
  p.dim = p.dim_v = is_unfused(kernel.operation) ? slots_per_query(p) : 24;
  check_far_apart(kernel, fitted(kernel, p));
  p.batch = 2, p.heads = 2, p.heads_kv = 1, p.layout = p.window = {1, 2, 1};
  p.dim = p.dim_v = is_unfused(kernel.operation) ? slots_per_query(p) : 24;
  check_far_apart(kernel, fitted(kernel, p));
  if (is_unfused(kernel.operation)) return;
  // Heads side by side, as a copy engine whose coordinates have 32 bits wants them.
  for (const DType dtype : {p.dtype, DType::bf16}) {
    if (!supports_usual(kernel, dtype).ok()) continue;
    p.dtype = dtype;
    p.batch = 2, p.heads = 2, p.heads_kv = 2, p.layout = p.window = {2, 1, 2};
    p.dim = p.dim_v = 24;
    check_far_apart(kernel, fitted(kernel, p), false);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, FarApart, testing::ValuesIn(all_rows()), name_of_row);

}  // namespace
}  // namespace vicinal
