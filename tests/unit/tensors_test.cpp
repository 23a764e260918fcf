// What is wrong with tensors and workspace is said before anything is written.

#include "core/tensors.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace vicinal {
namespace {

constexpr Device kFirstGpu{DeviceType::cuda, 0};

Problem small_problem() {
  Problem p;
  p.rank = 2;
  p.layout = {4, 5, 1};
  p.window = {3, 3, 1};
  p.batch = 2;
  p.heads = 4;
  p.heads_kv = 2;
  p.dim = 8;
  p.dim_v = 6;
  p.extra_kv = 3;
  return p;
}

/// Tensors for the small problem, contiguous; results hold kUnwritten.
class Tensors : public testing::Test {
 protected:
  static constexpr float kUnwritten = 1234.5F;

  Tensor make(std::vector<std::int64_t> sizes, float fill = 0.25F) {
    const auto count = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
    memory_.emplace_back(static_cast<std::size_t>(count), fill);
    return contiguous(memory_.back().data(), sizes);
  }

  ForwardTensors forward() {
    return {make({2, 4, 5, 4, 8}),
            make({2, 4, 5, 2, 8}),
            make({2, 4, 5, 2, 6}),
            make({2, 3, 2, 8}),
            make({2, 3, 2, 6}),
            make({2, 4, 5, 4, 6}, kUnwritten),
            make({2, 4, 5, 4}, kUnwritten)};
  }

  BackwardTensors backward() {
    const ForwardTensors f = forward();
    return {.query = f.query,
            .key = f.key,
            .value = f.value,
            .extra_key = f.extra_key,
            .extra_value = f.extra_value,
            .output = f.output,
            .logsumexp = f.logsumexp,
            .grad_output = make({2, 4, 5, 4, 6}),
            .grad_logsumexp = make({2, 4, 5, 4}),
            .grad_query = make({2, 4, 5, 4, 8}, kUnwritten),
            .grad_key = make({2, 4, 5, 2, 8}, kUnwritten),
            .grad_value = make({2, 4, 5, 2, 6}, kUnwritten),
            .grad_extra_key = make({2, 3, 2, 8}, kUnwritten),
            .grad_extra_value = make({2, 3, 2, 6}, kUnwritten)};
  }

  /// What `run` says after `change`; empty when it runs. Whenever it says something, nothing is written.
  std::string forward_error(const std::function<void(ForwardTensors&)>& change, const Problem& p = small_problem()) {
    ForwardTensors t = forward();
    const Tensor output = t.output, logsumexp = t.logsumexp;
    change(t);
    return error_of(make_plan(p, Operation::forward, {.backend = "reference", .tiling = {}}), t, {output, logsumexp});
  }

  std::string backward_error(const std::function<void(BackwardTensors&)>& change, const Problem& p = small_problem()) {
    BackwardTensors t = backward();
    const std::vector<Tensor> results{t.grad_query, t.grad_key, t.grad_value, t.grad_extra_key, t.grad_extra_value};
    change(t);
    return error_of(make_plan(p, Operation::backward, {.backend = "reference", .tiling = {}}), t, results);
  }

 private:
  template <class PassTensors>
  std::string error_of(const Plan& plan, const PassTensors& tensors, const std::vector<Tensor>& results) {
    try {
      run(plan, tensors, {.workspace = workspace_.data(), .workspace_bytes = sizeof(workspace_)});
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
      for (const Tensor& result : results) {
        const auto* data = static_cast<const float*>(result.data);
        const auto count = std::accumulate(result.sizes.begin(), result.sizes.begin() + result.rank, std::int64_t{1},
                                           std::multiplies<>());
        EXPECT_TRUE(std::all_of(data, data + count, [](float x) { return x == kUnwritten; })) << error.what();
      }
      return error.what();
    }
  }

  std::vector<std::vector<float>> memory_;
  alignas(64) std::array<std::byte, std::size_t{64} * 1024> workspace_{};
};

TEST_F(Tensors, AcceptedAsTheyShouldBe) {
  EXPECT_EQ(forward_error([](ForwardTensors&) {}), "");
  EXPECT_EQ(backward_error([](BackwardTensors&) {}), "");
}

TEST_F(Tensors, SomeMayBeAbsent) {
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.logsumexp = {}; }), "");
  EXPECT_EQ(backward_error([](BackwardTensors& t) { t.grad_logsumexp = {}; }), "");
}

TEST_F(Tensors, OthersMayNot) {
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.query = {}; }), "query is absent; allowed: a tensor");
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.extra_key = {}; }), "extra_key is absent; allowed: a tensor");
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.output = {}; }), "output is absent; allowed: a tensor");
  EXPECT_EQ(backward_error([](BackwardTensors& t) { t.logsumexp = {}; }), "logsumexp is absent; allowed: a tensor");
  EXPECT_EQ(backward_error([](BackwardTensors& t) { t.grad_value = {}; }), "grad_value is absent; allowed: a tensor");
  EXPECT_EQ(backward_error([](BackwardTensors& t) { t.grad_extra_value = {}; }),
            "grad_extra_value is absent; allowed: a tensor");
}

TEST_F(Tensors, ExtraTokensComeOnlyWithTheirCount) {
  Problem p = small_problem();
  p.extra_kv = 0;
  EXPECT_EQ(forward_error([](ForwardTensors&) {}, p), "extra_key is given, but extra_kv = 0; allowed: no such tensor");
  EXPECT_EQ(backward_error([](BackwardTensors& t) { t.extra_key = t.extra_value = {}; }, p),
            "grad_extra_key is given, but extra_kv = 0; allowed: no such tensor");
}

TEST_F(Tensors, EveryOneHasTheDtypeOfTheProblem) {
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.key.dtype = DType::fp16; }),
            "key has dtype fp16; allowed: fp32 in this fp32 problem");
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.logsumexp.dtype = DType::fp64; }),
            "logsumexp has dtype fp64; allowed: fp32 in this fp32 problem");
  Problem p = small_problem();
  p.dtype = DType::bf16;
  EXPECT_EQ(forward_error(
                [](ForwardTensors& t) {
                  for (Tensor* x : {&t.query, &t.key, &t.value, &t.extra_key, &t.extra_value, &t.output}) {
                    x->dtype = DType::bf16;
                  }
                  t.logsumexp.dtype = DType::bf16;
                },
                p),
            "logsumexp has dtype bf16; allowed: fp32 in this bf16 problem");
}

TEST_F(Tensors, EveryOneIsOnTheDeviceOfTheProblem) {
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.value.device = kFirstGpu; }),
            "value is on device cuda:0; allowed: cpu, the device of the problem");
}

TEST_F(Tensors, EveryOneHasItsShape) {
  EXPECT_EQ(forward_error([&](ForwardTensors& t) { t.query = make({2, 4, 5, 4, 6}); }),
            "query has shape [2, 4, 5, 4, 6]; allowed: [2, 4, 5, 4, 8], which is [batch, *layout, heads, dim]");
  EXPECT_EQ(forward_error([&](ForwardTensors& t) { t.value = make({2, 4, 5, 4, 6}); }),
            "value has shape [2, 4, 5, 4, 6]; allowed: [2, 4, 5, 2, 6], which is [batch, *layout, heads_kv, dim_v]");
  EXPECT_EQ(forward_error([&](ForwardTensors& t) { t.query.rank = 4; }),
            "query has shape [2, 4, 5, 4]; allowed: [2, 4, 5, 4, 8], which is [batch, *layout, heads, dim]");
  EXPECT_EQ(forward_error([&](ForwardTensors& t) { t.query.rank = 99; }),
            "query has shape [2, 4, 5, 4, 8, 0]; allowed: [2, 4, 5, 4, 8], which is [batch, *layout, heads, dim]");
  EXPECT_EQ(forward_error([&](ForwardTensors& t) { t.logsumexp = make({2, 4, 5, 2}); }),
            "logsumexp has shape [2, 4, 5, 2]; allowed: [2, 4, 5, 4], which is [batch, *layout, heads]");
  EXPECT_EQ(backward_error([&](BackwardTensors& t) { t.grad_extra_key = make({2, 5, 2, 8}); }),
            "grad_extra_key has shape [2, 5, 2, 8]; allowed: [2, 3, 2, 8], which is [batch, extra_kv, heads_kv, dim]");
}

TEST_F(Tensors, TheLastDimensionIsContiguous) {
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.key.strides[4] = 2; }),
            "key has stride 2 along its last dimension; allowed: 1 (contiguous)");
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.key.strides[4] = 0; }),
            "key has stride 0 along its last dimension; allowed: 1 (contiguous)");
}

TEST_F(Tensors, AWrittenTensorDoesNotOverlapItself) {
  const std::string allowed =
      "so that its elements overlap; allowed for a tensor that is written: strides under which no "
      "two elements share memory";
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.query.strides[1] = 0; }), "") << "an input may";
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.output.strides[0] = 0; }),
            "output has stride 0 along dimension 0 of extent 2, " + allowed);
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.output.strides[3] = 5; }),
            "output has stride 5 along dimension 3 of extent 4, " + allowed);
  EXPECT_EQ(backward_error([](BackwardTensors& t) { t.grad_key.strides[2] = 12; }),
            "grad_key has stride 12 along dimension 2 of extent 5, " + allowed);
}

TEST_F(Tensors, AWrittenTensorIsNoOtherTensor) {
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.output.data = t.value.data; }),
            "output starts at the address of value; allowed for a tensor that is written: memory of its own");
  EXPECT_EQ(backward_error([](BackwardTensors& t) { t.grad_key.data = t.grad_query.data; }),
            "grad_key starts at the address of grad_query; allowed for a tensor that is written: memory of its own");
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.key.data = t.query.data; }), "") << "inputs may be the same";
}

TEST_F(Tensors, EveryElementHasAnAddress) {
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.key.data = nullptr; }),
            "key has no data (a null pointer); allowed: the address of its first element");
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "allowed: a multiple of its element size, 4 bytes",
                      forward_error([](ForwardTensors& t) { t.key.data = static_cast<std::byte*>(t.key.data) + 2; }));
  const std::string beyond =
      "key with shape [2, 4, 5, 2, 8] and strides [4611686018427387904, 80, 16, 8, 1] reaches beyond the address "
      "space; "
      "allowed: byte offsets below 2^62";
  EXPECT_EQ(forward_error([](ForwardTensors& t) { t.key.strides[0] = std::int64_t{1} << 62; }), beyond);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "reaches beyond the address space", forward_error([](ForwardTensors& t) {
                        t.key.strides[0] = std::numeric_limits<std::int64_t>::min();
                      }));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "reaches beyond the address space",
                      forward_error([](ForwardTensors& t) { t.output.strides[0] = std::int64_t{1} << 62; }));
}

TEST_F(Tensors, StridesOfSingleElementsDoNotCount) {
  Problem p = small_problem();
  p.batch = 1;
  p.extra_kv = 0;
  ForwardTensors t;
  t.query = make({1, 4, 5, 4, 8});
  t.key = make({1, 4, 5, 2, 8});
  t.value = make({1, 4, 5, 2, 6});
  t.output = make({1, 4, 5, 4, 6});
  t.query.strides[0] = std::int64_t{1} << 62;
  t.output.strides[0] = 0;
  ForwardViews views;
  EXPECT_EQ(check_tensors(p, t, views).reason(), "");
  EXPECT_EQ(views.query.batch_stride, 0);
  EXPECT_FALSE(views.logsumexp);
  EXPECT_FALSE(views.extra_key);
}

TEST_F(Tensors, ViewsPutTheAxesLast) {
  ForwardViews views;
  const ForwardTensors t = forward();
  ASSERT_EQ(check_tensors(small_problem(), t, views).reason(), "");
  EXPECT_EQ(views.query.data, t.query.data);
  EXPECT_EQ(views.query.batch_stride, 640);
  EXPECT_EQ(views.query.axis_stride, (std::array<std::int64_t, 3>{0, 160, 32}));
  EXPECT_EQ(views.query.head_stride, 8);
  EXPECT_EQ(views.extra_value.axis_stride, (std::array<std::int64_t, 3>{0, 0, 12})) << "the count is on the last axis";
  EXPECT_EQ(views.logsumexp.axis_stride, (std::array<std::int64_t, 3>{0, 20, 4}));
  EXPECT_EQ(views.logsumexp.head_stride, 1);
  EXPECT_EQ(views.query.offset(1, 0, 3, 4, 2), 1 * 640 + 3 * 160 + 4 * 32 + 2 * 8);
}

TEST_F(Tensors, AnEmptyBatchNeedsNoMemory) {
  Problem p = small_problem();
  p.batch = 0;
  ForwardTensors t = forward();
  for (Tensor* x : {&t.query, &t.key, &t.value, &t.extra_key, &t.extra_value, &t.output, &t.logsumexp}) {
    x->sizes[0] = 0;
    x->data = nullptr;
  }
  EXPECT_NO_THROW(run(make_plan(p, Operation::forward), t));
  t.key.sizes[4] = 7;
  EXPECT_THROW(run(make_plan(p, Operation::forward), t), Error) << "its shape is checked all the same";
}

TEST_F(Tensors, AlignmentIsThatOfAddressesAndStrides) {
  alignas(16) static std::array<std::byte, 64> memory;
  const auto tensor = [](std::size_t shift, std::vector<std::int64_t> strides, DType dtype = DType::fp16) {
    Tensor t{.data = memory.data() + shift, .rank = 5, .sizes = {2, 4, 5, 2, 8}, .dtype = dtype};
    std::ranges::copy(strides, t.strides.begin());
    return t;
  };
  const Tensor aligned = tensor(0, {320, 80, 16, 8, 1});
  ForwardTensors t;
  t.query = t.key = t.value = aligned;
  EXPECT_EQ(alignment_of(t), 16);
  EXPECT_EQ(alignment_of(ForwardTensors{}), 16) << "absent tensors do not count";

  t.output = t.logsumexp = tensor(2, {321, 81, 17, 9, 1});
  EXPECT_EQ(alignment_of(t), 16) << "nor do those that are written";
  t.query = tensor(0, {320, 80, 16, 8, 3});
  EXPECT_EQ(alignment_of(t), 16) << "nor does the last stride";
  t.query = tensor(0, {0, 0, 0, 0, 1});
  EXPECT_EQ(alignment_of(t), 16);

  t.query = tensor(8, {320, 80, 16, 8, 1});
  EXPECT_EQ(alignment_of(t), 8) << "an address";
  t.value = tensor(0, {320, 80, 16, -10, 1});
  EXPECT_EQ(alignment_of(t), 4) << "the least of all";
  t.value = tensor(0, {320, 80, 16, -10, 1}, DType::fp32);
  EXPECT_EQ(alignment_of(t), 8) << "strides are in elements";
  t.value.sizes[3] = 1;
  t.query = aligned;
  EXPECT_EQ(alignment_of(t), 16) << "a stride that leads nowhere";
  t.key = tensor(0, {std::numeric_limits<std::int64_t>::max(), 80, 16, 8, 1});
  EXPECT_EQ(alignment_of(t), 2);
  t.key = aligned;
  t.extra_key = tensor(4, {320, 80, 16, 8, 1});
  EXPECT_EQ(alignment_of(t), 4);
  t.extra_value = tensor(2, {320, 80, 16, 8, 1});
  EXPECT_EQ(alignment_of(t), 2);

  BackwardTensors b;
  b.query = b.key = b.value = b.grad_output = aligned;
  b.output = b.grad_logsumexp = b.grad_query = tensor(2, {321, 81, 17, 9, 1});
  EXPECT_EQ(alignment_of(b), 16);
  b.grad_output = tensor(0, {320, 81, 16, 8, 1});
  EXPECT_EQ(alignment_of(b), 2);
}

TEST_F(Tensors, AlignmentIsLessWhereTheCopyEngineDoesNotTakeStrides) {
  alignas(16) static std::array<std::byte, 64> memory;
  ForwardTensors t;
  const auto alignment = [&](std::vector<std::int64_t> strides, DType dtype = DType::fp16) {
    t.key = {.data = memory.data(), .rank = 5, .sizes = {2, 4, 5, 3, 8}, .dtype = dtype};
    std::ranges::copy(strides, t.key.strides.begin());
    return alignment_of(t);
  };
  ASSERT_EQ(alignment({480, 120, 24, 8, 1}), 16);
  for (std::size_t i = 0; i < 4; ++i) {
    std::vector<std::int64_t> strides{480, 120, 24, 8, 1};
    strides[i] *= -1;
    EXPECT_EQ(alignment(strides), 8) << "negative along dimension " << i;
    t.key.sizes[i] = 1;
    EXPECT_EQ(alignment_of(t), 16) << "one that leads nowhere";
  }
  constexpr std::int64_t kLong = std::int64_t{1} << 39;  // elements of 2 bytes
  for (std::size_t i = 0; i < 3; ++i) {
    std::vector<std::int64_t> strides{480, 120, 24, 8, 1};
    strides[i] = kLong - 8;
    EXPECT_EQ(alignment(strides), 16) << i;
    EXPECT_EQ(alignment(strides, DType::fp32), 8) << "strides are in elements";
    strides[i] = kLong;
    EXPECT_EQ(alignment(strides), 8) << i;
    strides[i] = std::int64_t{1} << 62;
    EXPECT_EQ(alignment(strides), 8) << i;
  }
  // Two steps from the first head to the last, whose 8 elements are counted, too.
  constexpr std::int64_t kFar = std::int64_t{1} << 30;
  EXPECT_EQ(alignment({480, 120, 24, kFar - 8, 1}), 16);
  EXPECT_EQ(alignment({480, 120, 24, kFar, 1}), 8);
  EXPECT_EQ(alignment({480, 120, 24, std::int64_t{1} << 62, 1}), 8);
  EXPECT_EQ(alignment({480, 120, -20, 8, 1}), 8);
  EXPECT_EQ(alignment({480, 120, -18, 8, 1}), 4) << "as they are aligned, where that is less";
}

TEST(Contiguous, PutsTheLastDimensionFastest) {
  float data[24];
  const Tensor t = contiguous(data, {2, 3, 4});
  EXPECT_EQ(t.data, data);
  EXPECT_EQ(t.rank, 3);
  EXPECT_EQ(t.strides, (std::array<std::int64_t, kMaxTensorRank>{12, 4, 1}));
  EXPECT_THROW(contiguous(data, {1, 1, 1, 1, 1, 1, 1}), Error);
}

TEST(Execution, NamesWhatIsWrong) {
  Plan plan;
  plan.workspace_bytes = 100;
  alignas(64) std::array<std::byte, 128> memory{};
  EXPECT_EQ(check_execution(plan, {.workspace = memory.data(), .workspace_bytes = 100}).reason(), "");
  EXPECT_EQ(check_execution(plan, {.workspace = memory.data(), .workspace_bytes = 99}).reason(),
            "workspace_bytes = 99; allowed: at least the plan's workspace_bytes = 100");
  EXPECT_EQ(check_execution(plan, {.workspace = nullptr, .workspace_bytes = 100}).reason(),
            "workspace is null; allowed: the address of 100 bytes");
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "allowed: a multiple of 64 bytes",
                      check_execution(plan, {.workspace = memory.data() + 8, .workspace_bytes = 100}).reason());
  EXPECT_EQ(check_execution({}, {.threads = -1}).reason(),
            "threads = -1; allowed: 0 (as many as OpenMP would use) or more");
  EXPECT_EQ(check_execution({}, {}).reason(), "") << "no workspace needed";
}

}  // namespace
}  // namespace vicinal
