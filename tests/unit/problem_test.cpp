#include "vicinal/problem.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

namespace vicinal {
namespace {

constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();

Problem two_axes() {
  Problem p;
  p.rank = 2;
  p.layout = {56, 48, 1};
  p.window = {7, 9, 1};
  p.heads = p.heads_kv = 4;
  return p;
}

/// What `validate` says once `change` has been made to a valid problem.
std::string reason(const std::function<void(Problem&)>& change) {
  Problem p = two_axes();
  change(p);
  return validate(p).reason();
}

TEST(Validation, AcceptsWhatIsLegal) {
  EXPECT_EQ(reason([](Problem&) {}), "");
  EXPECT_EQ(reason([](Problem& p) { p.batch = 0; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.window = {56, 48, 0}; }), "") << "entries beyond the rank do not count";
  EXPECT_EQ(reason([](Problem& p) { p.stride = p.window; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.dilation = {8, 5, 1}; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.heads = 12; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.scale = 0.0; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.scale = -1.5; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.extra_kv = 100; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.device = {DeviceType::cuda, 3}; }), "");
  for (const std::int64_t alignment : {1, 2, 4, 8, 16}) {
    EXPECT_EQ(reason([=](Problem& p) { p.alignment = alignment; }), "");
  }
}

TEST(Validation, NamesTheRank) {
  EXPECT_EQ(reason([](Problem& p) { p.rank = 0; }), "rank = 0; allowed: 1 to 3");
  EXPECT_EQ(reason([](Problem& p) { p.rank = 4; }), "rank = 4; allowed: 1 to 3");
}

TEST(Validation, NamesTheDtypeAndTheDevice) {
  EXPECT_EQ(reason([](Problem& p) { p.dtype = static_cast<DType>(9); }), "dtype = 9; allowed: fp64, fp32, fp16, bf16");
  EXPECT_EQ(reason([](Problem& p) { p.device.type = static_cast<DeviceType>(5); }),
            "device.type = 5; allowed: cpu, cuda");
  EXPECT_EQ(reason([](Problem& p) { p.device.index = -1; }), "device.index = -1; allowed: at least 0");
  EXPECT_EQ(reason([](Problem& p) { p.device.index = 1; }), "device.index = 1 on the cpu; allowed: 0");
}

TEST(Validation, NamesTheAlignment) {
  EXPECT_EQ(reason([](Problem& p) { p.alignment = 0; }), "alignment = 0; allowed: 1, 2, 4, 8, 16");
  EXPECT_EQ(reason([](Problem& p) { p.alignment = 12; }), "alignment = 12; allowed: 1, 2, 4, 8, 16");
  EXPECT_EQ(reason([](Problem& p) { p.alignment = 32; }), "alignment = 32; allowed: 1, 2, 4, 8, 16");
  EXPECT_EQ(reason([](Problem& p) { p.alignment = std::numeric_limits<std::int64_t>::min(); }),
            "alignment = -9223372036854775808; allowed: 1, 2, 4, 8, 16");
}

TEST(Validation, NamesCounts) {
  EXPECT_EQ(reason([](Problem& p) { p.batch = -1; }), "batch = -1; allowed: at least 0");
  EXPECT_EQ(reason([](Problem& p) { p.heads = 0; }), "heads = 0; allowed: at least 1");
  EXPECT_EQ(reason([](Problem& p) { p.heads_kv = 0; }), "heads_kv = 0; allowed: at least 1");
  EXPECT_EQ(reason([](Problem& p) { p.heads_kv = 3; }),
            "heads = 4 with heads_kv = 3; allowed: heads a multiple of heads_kv");
  EXPECT_EQ(reason([](Problem& p) { p.dim = 0; }), "dim = 0; allowed: at least 1");
  EXPECT_EQ(reason([](Problem& p) { p.dim_v = -4; }), "dim_v = -4; allowed: at least 1");
  EXPECT_EQ(reason([](Problem& p) { p.extra_kv = -2; }), "extra_kv = -2; allowed: at least 0");
}

TEST(Validation, NamesTheAxis) {
  EXPECT_EQ(reason([](Problem& p) { p.layout[1] = 0; }), "layout[1] = 0; allowed: at least 1");
  EXPECT_EQ(reason([](Problem& p) { p.window[0] = 0; }), "window[0] = 0; allowed: at least 1");
  EXPECT_EQ(reason([](Problem& p) { p.dilation[1] = 0; }), "dilation[1] = 0; allowed: at least 1");
  EXPECT_EQ(reason([](Problem& p) { p.stride[1] = 10; }), "stride[1] = 10; allowed: 1 to window[1] = 9");
  EXPECT_EQ(reason([](Problem& p) { p.stride[0] = 0; }), "stride[0] = 0; allowed: 1 to window[0] = 7");
}

TEST(Validation, NamesTheWindowThatDoesNotFit) {
  EXPECT_EQ(reason([](Problem& p) { p.window[1] = 49; }),
            "window[1] = 49, but layout[1] = 48; allowed: window * dilation <= extent");
  EXPECT_EQ(reason([](Problem& p) { p.dilation[1] = 7; }),
            "window[1] = 9 with dilation[1] = 7 covers 63 tokens, but layout[1] = 48; "
            "allowed: window * dilation <= extent");
  EXPECT_EQ(reason([](Problem& p) {
              p.window[0] = std::int64_t{1} << 40;
              p.dilation[0] = std::int64_t{1} << 40;
            }),
            "window[0] = 1099511627776 with dilation[0] = 1099511627776 covers 1208925819614629174706176 tokens, but "
            "layout[0] = 56; allowed: window * dilation <= extent");
}

TEST(Validation, NamesTheScale) {
  EXPECT_EQ(reason([](Problem& p) { p.scale = std::nan(""); }),
            "scale = nan; allowed: a finite number of magnitude at most 1e+30");
  EXPECT_EQ(reason([](Problem& p) { p.scale = -std::numeric_limits<double>::infinity(); }),
            "scale = -inf; allowed: a finite number of magnitude at most 1e+30");
  EXPECT_EQ(reason([](Problem& p) { p.scale = 1e31; }),
            "scale = 1e+31; allowed: a finite number of magnitude at most 1e+30");
}

TEST(Validation, NamesTheTensorThatIsTooLarge) {
  EXPECT_EQ(reason([](Problem& p) { p.layout = {std::int64_t{1} << 40, std::int64_t{1} << 20, 1}; }),
            "query with shape [1, 1099511627776, 1048576, 4, 64] has too many elements for 64-bit indices; "
            "allowed: at most 1152921504606846975");
  EXPECT_EQ(reason([](Problem& p) { p.dim_v = kHuge; }),
            "output with shape [1, 56, 48, 4, 9223372036854775807] has too many elements for 64-bit indices; "
            "allowed: at most 1152921504606846975");
  EXPECT_EQ(reason([](Problem& p) { p.extra_kv = kHuge; }),
            "extra_key or extra_value with shape [1, 9223372036854775807, 4, 64] has too many elements for 64-bit "
            "indices; allowed: at most 1152921504606846975");
}

TEST(Problem, ScaleDefaultsToTheRootOfTheDim) {
  Problem p = two_axes();
  p.dim = 16;
  EXPECT_EQ(p.effective_scale(), 0.25);
  p.scale = 0.0;
  EXPECT_EQ(p.effective_scale(), 0.0);
}

TEST(Problem, CountsTheTokensOfItsRank) {
  Problem p = two_axes();
  p.layout[2] = 100;
  EXPECT_EQ(p.tokens(), 56 * 48);
}

TEST(Problem, PadsLeadingAxes) {
  Problem p = two_axes();
  p.stride = {2, 3, 9};
  p.dilation = {4, 5, 9};
  p.causal = {true, false, true};
  const Problem padded = padded_to_rank_3(p);
  EXPECT_EQ(padded.rank, 3);
  EXPECT_EQ(padded.layout, (PerAxis<std::int64_t>{1, 56, 48}));
  EXPECT_EQ(padded.window, (PerAxis<std::int64_t>{1, 7, 9}));
  EXPECT_EQ(padded.stride, (PerAxis<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(padded.dilation, (PerAxis<std::int64_t>{1, 4, 5}));
  EXPECT_EQ(padded.causal, (PerAxis<bool>{false, true, false}));
  EXPECT_EQ(padded.tokens(), p.tokens());
  EXPECT_EQ(padded_to_rank_3(padded), padded);
}

TEST(Problem, SpeaksTheWordsOfTheCommandLine) {
  Problem p = two_axes();
  EXPECT_EQ(to_string(p), "--layout 56x48 --window 7x9 --heads 4 --dim 64 --dtype fp32");
  p.rank = 3;
  p.layout = {30, 48, 80};
  p.window = {18, 24, 24};
  p.stride = {16, 8, 8};
  p.dilation = {1, 2, 3};
  p.causal = {true, false, false};
  p.batch = 2;
  p.heads = 24;
  p.heads_kv = 8;
  p.dim = 128;
  p.dim_v = 64;
  p.extra_kv = 5;
  p.scale = -0.1;
  p.dtype = DType::bf16;
  p.device = {DeviceType::cuda, 1};
  EXPECT_EQ(to_string(p),
            "--layout 30x48x80 --window 18x24x24 --stride 16x8x8 --dilation 1x2x3 --causal 1,0,0 --batch 2 --heads 24 "
            "--heads-kv 8 --dim 128 --dim-v 64 --extra-kv 5 --scale -0.1 --dtype bf16 --device cuda:1");
  p = two_axes();
  p.alignment = 8;
  EXPECT_EQ(to_string(p), "--layout 56x48 --window 7x9 --heads 4 --dim 64 --dtype fp32 --alignment 8");
}

TEST(Names, OfDtypesAndDevices) {
  EXPECT_EQ(name_of(DType::fp64), "fp64");
  EXPECT_EQ(name_of(DType::bf16), "bf16");
  EXPECT_EQ(name_of(DeviceType::cuda), "cuda");
  EXPECT_EQ(size_of(DType::fp64), 8U);
  EXPECT_EQ(size_of(DType::fp16), 2U);
}

}  // namespace
}  // namespace vicinal
