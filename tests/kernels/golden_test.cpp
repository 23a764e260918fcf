// Every kernel over the golden cases: problems whose results another implementation recorded (tests/golden/README.md).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "check/case.h"
#include "check/check.h"
#include "check/device_run.h"
#include "check/expected.h"
#include "check/random.h"
#include "check/test_tensor.h"
#include "core/tensors.h"
#include "rows.h"
#include "vicinal/attention.h"

namespace vicinal {
namespace {

using check::Shape;
using check::Shapes;
using check::TestTensor;
using nlohmann::json;

/// The folder of the golden cases: where the tests were built, or, should they have moved, where the environment says.
std::filesystem::path golden_folder() {
  const char* moved = std::getenv("VICINAL_GOLDEN");
  return moved != nullptr ? moved : VICINAL_GOLDEN;
}

/// The values of an array of the archive, as it was recorded: float32 in C order.
std::vector<double> recorded(int id, const char* name) {
  const auto path = golden_folder() / fmt::format("{}.{}.npy", id, name);
  std::ifstream file(path, std::ios::binary);
  std::array<char, 10> start{};  // "\x93NUMPY", the version 1.0, the length of the header that follows
  file.read(start.data(), start.size());
  const auto byte = [&](int i) { return static_cast<std::size_t>(static_cast<unsigned char>(start[i])); };
  std::string header(byte(8) + 256 * byte(9), ' ');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  if (!file || header.find("'<f4', 'fortran_order': False") == std::string::npos) {
    throw std::runtime_error(fmt::format("{} is not a float32 array", path.string()));
  }
  const std::size_t count = (std::filesystem::file_size(path) - start.size() - header.size()) / sizeof(float);
  std::vector<float> values(count);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)));
  return {values.begin(), values.end()};
}

/// The inputs of the golden cases: float32 in [-1, 1) from a hash, as `hashed` in tests/golden/reference.py.
std::vector<double> hashed(std::uint64_t seed, const Shape& shape) {
  std::vector<double> values(static_cast<std::size_t>(shape.elements()));
  for (std::uint64_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<double>(check::mix(i + seed * 0x9E3779B97F4A7C15U) >> 40) / 0x1p23 - 1;
  }
  return values;
}

struct GoldenCase {
  int id;
  Problem problem;
};

GoldenCase parse(const json& j) {
  Problem p;
  p.rank = static_cast<int>(j["layout"].size());
  p.batch = j["batch"];
  p.heads = j["heads"];
  p.heads_kv = j["heads_kv"];
  p.dim = j["dim"];
  p.dim_v = j["dim_v"];
  p.extra_kv = j["extra_kv"];
  for (int a = 0; a < p.rank; ++a) {
    p.layout[a] = j["layout"][a];
    p.window[a] = j["window"][a];
    p.stride[a] = j["stride"][a];
    p.dilation[a] = j["dilation"][a];
    p.causal[a] = j["causal"][a].get<int>() != 0;
  }
  return {j["id"], p};
}

/// Tensors of one case; a shape of no elements is an absent tensor.
class Tensors {
 public:
  explicit Tensors(const check::Arrangement& arrangement) : arrangement_(arrangement) {}

  Tensor input(const Shape& shape, DType dtype, const std::vector<double>& values) {
    TestTensor& tensor = add(shape, dtype);
    tensor.store(values);
    return tensor.tensor();
  }

  Tensor result(const Shape& shape, DType dtype, const char* name) {
    TestTensor& tensor = add(shape, dtype);
    if (tensor.present()) results_.push_back({name, &tensor});
    return tensor.tensor();
  }

  /// Runs a plan on tensors that were made here.
  template <class PassTensors>
  void run(const Plan& plan, const PassTensors& tensors) {
    std::vector<std::span<std::byte>> memory;
    memory.reserve(tensors_.size());
    for (const auto& tensor : tensors_) memory.push_back(tensor->memory());
    check::run_anywhere(plan, tensors, memory, Workspace(plan).memory(), 0);
  }

  void expect_recorded(const GoldenCase& golden, double limit) const {
    for (const auto& [name, tensor] : results_) {
      const std::vector<double> result = tensor->load();
      const std::vector<double> expected = recorded(golden.id, name);
      ASSERT_EQ(result.size(), expected.size());
      double error = 0, norm = 0, largest_error = 0;
      for (std::size_t i = 0; i < result.size(); ++i) {
        const double difference = std::abs(result[i] - expected[i]);
        largest_error = std::isnan(difference) ? difference : std::max(largest_error, difference);
        error += difference * difference;
        norm += expected[i] * expected[i];
      }
      const std::string what = fmt::format("golden case {} ({}), {}", golden.id, to_string(golden.problem), name);
      EXPECT_LE(std::sqrt(error), limit * std::sqrt(norm)) << what;
      EXPECT_LE(largest_error, limit * std::max(1.0, std::sqrt(norm / static_cast<double>(result.size())))) << what;
    }
  }

 private:
  TestTensor& add(const Shape& shape, DType dtype) {
    tensors_.push_back(std::make_unique<TestTensor>());
    if (shape.elements() > 0) *tensors_.back() = TestTensor(shape, dtype, arrangement_);
    return *tensors_.back();
  }

  check::Arrangement arrangement_;
  std::vector<std::unique_ptr<TestTensor>> tensors_;
  std::vector<std::pair<const char*, const TestTensor*>> results_;
};

// The weights themselves were not recorded: the problem is checked as those of the sweep are.
void check_unfused(const GoldenCase& golden, const KernelRow& kernel) {
  for (const MaskedScore masked : {MaskedScore::minus_infinity, MaskedScore::zero}) {
    const check::Case c{.problem = golden.problem, .seed = static_cast<std::uint64_t>(golden.id), .masked = masked};
    for (const std::string& failure : check::check_case(c, kernel).failures) {
      ADD_FAILURE() << fmt::format("golden case {} ({}): {}", golden.id, to_string(golden.problem), failure);
    }
    if (kernel.operation != Operation::pointwise_neighborhood) return;
  }
}

/// How far results may be from the recorded ones, relative to their norm. Those are of inputs in fp32: fp16 and bf16
/// round inputs and results by up to 2^-11 and 2^-8, and for gradients also the output that they are given. The kernels
/// on the CPU reach half of these limits.
double limit_of(Operation operation, DType dtype) {
  const bool backward = operation == Operation::backward;
  switch (dtype) {
    case DType::bf16: return backward ? 2e-2 : 8e-3;
    case DType::fp16: return backward ? 2.5e-3 : 1e-3;
    default: return backward ? 1e-4 : 2e-5;
  }
}

/// The same problem with the oracle's results: with tiles of other shapes, counted, between poison.
void check_tilings(const GoldenCase& golden, const KernelRow& kernel, const check::Arrangement& arrangement) {
  check::Case c{.problem = golden.problem, .seed = static_cast<std::uint64_t>(golden.id)};
  c.arrange(arrangement);
  for (const std::string& failure : check::check_case(c, kernel).failures) {
    ADD_FAILURE() << fmt::format("golden case {} ({}): {}", golden.id, to_string(golden.problem), failure);
  }
}

void check_recorded(const GoldenCase& golden, const KernelRow& kernel, const check::Arrangement& arrangement) {
  const Problem& p = golden.problem;
  const Shapes shapes(p);
  const auto seed = static_cast<std::uint64_t>(1000 * golden.id);
  const DType stats = logsumexp_dtype(p.dtype);
  Tensors t(arrangement);
  const Tensor query = t.input(shapes.query, p.dtype, hashed(seed + 1, shapes.query));
  const Tensor key = t.input(shapes.key, p.dtype, hashed(seed + 2, shapes.key));
  const Tensor value = t.input(shapes.value, p.dtype, hashed(seed + 3, shapes.value));
  const Tensor extra_key = t.input(shapes.extra_key, p.dtype, hashed(seed + 5, shapes.extra_key));
  const Tensor extra_value = t.input(shapes.extra_value, p.dtype, hashed(seed + 6, shapes.extra_value));
  const Plan plan = make_plan(p, kernel.operation, {.backend = std::string(kernel.name), .tiling = {}});
  ASSERT_EQ(plan.kernel_name(), kernel.name);
  if (kernel.operation == Operation::forward) {
    const ForwardTensors forward{query,
                                 key,
                                 value,
                                 extra_key,
                                 extra_value,
                                 t.result(shapes.output, p.dtype, "out"),
                                 t.result(shapes.logsumexp, stats, "lse")};
    t.run(plan, forward);
    t.expect_recorded(golden, limit_of(kernel.operation, p.dtype));
    return;
  }
  const BackwardTensors backward{
      .query = query,
      .key = key,
      .value = value,
      .extra_key = extra_key,
      .extra_value = extra_value,
      .output = t.input(shapes.output, p.dtype, recorded(golden.id, "out")),
      .logsumexp = t.input(shapes.logsumexp, stats, recorded(golden.id, "lse")),
      .grad_output = t.input(shapes.output, p.dtype, hashed(seed + 4, shapes.output)),
      .grad_logsumexp = {},
      .grad_query = t.result(shapes.query, p.dtype, "dq"),
      .grad_key = t.result(shapes.key, p.dtype, "dk"),
      .grad_value = t.result(shapes.value, p.dtype, "dv"),
      .grad_extra_key = t.result(shapes.extra_key, p.dtype, "dek"),
      .grad_extra_value = t.result(shapes.extra_value, p.dtype, "dev"),
  };
  t.run(plan, backward);
  t.expect_recorded(golden, limit_of(kernel.operation, p.dtype));
}

void check_golden(const GoldenCase& golden, const KernelRow& kernel) {
  if (is_unfused(kernel.operation)) return check_unfused(golden, kernel);
  check_recorded(golden, kernel, {});
  if (kernel.backend != "fused") return;
  // Aligned, so that they may be read many elements at a time, or by a copy engine.
  check_recorded(golden, kernel, {.shift = 0});
  const std::int64_t gap = 16 / static_cast<std::int64_t>(size_of(golden.problem.dtype));
  check_tilings(golden, kernel, {.shift = 0, .row_gap = gap, .token_gap = 1});
}

using Golden = EveryKernel;

constexpr int kCases = 62;

TEST_P(Golden, MatchesTheRecordedResults) {
  std::ifstream file(golden_folder() / "cases.json");
  int ran = 0;
  for (const json& j : json::parse(file)) {
    GoldenCase golden = parse(j);
    for (const DType dtype : kDTypes) {
      golden.problem.dtype = dtype;
      golden.problem.device.type = GetParam()->device;
      if (!GetParam()->supports(padded_to_rank_3(golden.problem)).ok()) continue;
      ++ran;
      check_golden(golden, *GetParam());
    }
  }
  RecordProperty("ran", ran);
  if (ran == 0 && is_special(*GetParam()) && !is_unfused(GetParam()->operation)) {
    GTEST_SKIP() << "no golden case is of the shape that this kernel is made for";
  }
  EXPECT_GE(ran, is_special(*GetParam()) ? 1 : kCases * usual_dtypes(*GetParam()))
      << "the kernel refused most of the golden cases";
}

INSTANTIATE_TEST_SUITE_P(Kernels, Golden, testing::ValuesIn(all_rows()), name_of_row);

}  // namespace
}  // namespace vicinal
