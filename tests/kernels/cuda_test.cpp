// How CUDA kernels are launched: streams, graphs, threads, devices, errors. What they compute is tested with all
// others.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "check/device_run.h"
#include "check/random.h"
#include "cuda/devices.h"
#include "cuda/memory.h"
#include "vicinal/attention.h"

namespace vicinal {
namespace {

Problem small_problem(int device) {
  Problem p;
  p.batch = 2;
  p.heads = 4;
  p.heads_kv = 2;
  p.dim = p.dim_v = 32;
  p.layout = {20, 24, 1};
  p.window = {5, 7, 1};
  p.device = {DeviceType::cuda, device};
  return p;
}

/// A forward pass in fp32 with its tensors on a GPU, and the same on the CPU.
class Pass {
 public:
  explicit Pass(int device, std::uint64_t seed = 1) : problem_(small_problem(device)), run_(problem_.device) {
    const std::int64_t rows = problem_.batch * problem_.tokens();
    check::Random random(seed);
    for (std::vector<float>* input : {&query_, &key_, &value_}) {
      input->resize(static_cast<std::size_t>(rows * (input == &query_ ? problem_.heads : problem_.heads_kv) * 32));
      for (float& x : *input) x = static_cast<float>(2 * random.unit() - 1);
    }
    output_.assign(query_.size(), std::nanf(""));
    logsumexp_.assign(static_cast<std::size_t>(rows * problem_.heads), std::nanf(""));
    plan_ = make_plan(problem_, Operation::forward);
    workspace_.resize(plan_.workspace_bytes + 64);
    for (std::vector<float>* data : {&query_, &key_, &value_, &output_, &logsumexp_}) {
      run_.add(std::as_writable_bytes(std::span(*data)));
    }
    run_.add(workspace_);
    run_.begin();
  }

  void launch(void* stream) const {
    ForwardTensors tensors = host_tensors();
    for (Tensor ForwardTensors::* member : kMembers) tensors.*member = run_.on_device(tensors.*member);
    run(plan_, tensors,
        {.workspace = run_.address(workspace_.data()),
         .workspace_bytes = plan_.workspace_bytes,
         .threads = 0,
         .stream = stream});
  }

  /// Negates the values on the device, which negates the output.
  void negate_values() {
    for (float& x : value_) x = -x;
    cuda::copy(problem_.device.index, run_.address(value_.data()), value_.data(), value_.size() * sizeof(float));
  }

  /// The output on the GPU, once the device has nothing left to do.
  const std::vector<float>& result() {
    run_.end();
    return output_;
  }

  void expect_right() {
    const std::vector<float> result_here = result();
    Problem p = problem_;
    p.device = {};
    const Plan plan = make_plan(p, Operation::forward);
    run(plan, host_tensors());
    double worst = 0;
    for (std::size_t i = 0; i < output_.size(); ++i) {
      const double error = std::abs(output_[i] - result_here[i]);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
    EXPECT_LT(worst, 1e-5);
  }

 private:
  static constexpr Tensor ForwardTensors::* kMembers[] = {&ForwardTensors::query, &ForwardTensors::key,
                                                          &ForwardTensors::value, &ForwardTensors::output,
                                                          &ForwardTensors::logsumexp};

  [[nodiscard]] ForwardTensors host_tensors() const {
    const auto& p = problem_;
    const auto tensor = [&](const std::vector<float>& data, std::int64_t heads) {
      return contiguous(const_cast<float*>(data.data()), {p.batch, p.layout[0], p.layout[1], heads, p.dim});
    };
    return {
        .query = tensor(query_, p.heads),
        .key = tensor(key_, p.heads_kv),
        .value = tensor(value_, p.heads_kv),
        .extra_key = {},
        .extra_value = {},
        .output = tensor(output_, p.heads),
        .logsumexp = contiguous(const_cast<float*>(logsumexp_.data()), {p.batch, p.layout[0], p.layout[1], p.heads})};
  }

  Problem problem_;
  Plan plan_;
  std::vector<float> query_, key_, value_, output_, logsumexp_;
  std::vector<std::byte> workspace_;
  check::DeviceRun run_;
};

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::devices().empty()) GTEST_SKIP() << "this machine has no CUDA device";
  }
};

bool is_untouched(const std::vector<float>& output) {
  return std::all_of(output.begin(), output.end(), [](float x) { return std::isnan(x); });
}

TEST_F(OnGpu, TheDefaultStream) {
  Pass pass(0);
  pass.launch(nullptr);
  pass.expect_right();
}

TEST_F(OnGpu, AStreamOfTheCallers) {
  Pass pass(0);
  const cuda::Stream stream(0);
  pass.launch(stream.get());
  pass.expect_right();
}

TEST_F(OnGpu, AGraphIsCapturedAndReplayed) {
  Pass pass(0);
  cuda::Stream stream(0);
  stream.begin_capture();
  pass.launch(stream.get());
  stream.end_capture();
  EXPECT_TRUE(is_untouched(pass.result())) << "a call ran while it was captured";
  stream.replay();
  stream.synchronize();
  pass.expect_right();
  pass.negate_values();
  stream.replay();
  stream.synchronize();
  pass.expect_right();
}

TEST_F(OnGpu, SeveralThreadsAtOnce) {
  constexpr int kThreads = 4;
  std::vector<Pass> passes;
  passes.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) passes.emplace_back(0, i);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (Pass& pass : passes) {
    threads.emplace_back([&pass] {
      const cuda::Stream stream(0);
      for (int i = 0; i < 20; ++i) pass.launch(stream.get());
      stream.synchronize();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (Pass& pass : passes) pass.expect_right();
}

TEST_F(OnGpu, ADeviceThatIsNotCurrent) {
  if (cuda::devices().size() < 2) GTEST_SKIP() << "this machine has one CUDA device";
  Pass pass(1);
  cuda::synchronize(0);  // makes device 0 current
  pass.launch(nullptr);
  pass.expect_right();
}

TEST(Cuda, AnErrorNamesTheProblem) {
  if (!cuda::built()) GTEST_SKIP() << "this build has no CUDA code";
  const Problem p = small_problem(99);  // no machine has as many
  const Plan plan = make_plan(p, Operation::forward);
  alignas(64) std::byte memory[64];
  const auto tensor = [&](int place, std::int64_t heads) {
    return contiguous(memory + place, {p.batch, p.layout[0], p.layout[1], heads, p.dim}, DType::fp32, p.device);
  };
  ForwardTensors tensors;
  tensors.query = tensor(0, p.heads);
  tensors.key = tensor(4, p.heads_kv);
  tensors.value = tensor(8, p.heads_kv);
  tensors.output = tensor(12, p.heads);
  try {
    run(plan, tensors, {.workspace = memory, .workspace_bytes = plan.workspace_bytes});
    FAIL() << "a kernel ran on a device that does not exist";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::system);
    EXPECT_NE(std::string(error.what()).find("20x24"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vicinal
