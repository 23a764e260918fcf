// Seeded random problems on every kernel.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "check/case.h"
#include "check/check.h"
#include "rows.h"

namespace vicinal {
namespace {

constexpr auto kCases = static_cast<std::int64_t>(300 * VICINAL_SWEEP_EFFORT);
constexpr int kShownFailures = 10;

using Sweep = EveryKernel;

TEST_P(Sweep, MatchesTheOracle) {
  const KernelRow& kernel = *GetParam();
  const check::Sweep sweep{.seed = 2024, .size = VICINAL_SWEEP_EFFORT};
  int ran = 0;
  int failed = 0;
  double worst = 0;
  for (std::int64_t number = 0; number < kCases && failed < kShownFailures; ++number) {
    check::Case c = check::random_case(sweep, number);
    c.problem.device.type = kernel.device;
    const check::Report report = check::check_case(c, kernel);
    ran += report.ran();
    failed += !report.passed();
    worst = std::max(worst, report.worst);
    EXPECT_TRUE(report.passed()) << fmt::format("{}\n  {}\n  {}",
                                                check::reproducing_command(sweep, number, kernel.name),
                                                to_string(c.problem), fmt::join(report.failures, "\n  "));
  }
  RecordProperty("ran", ran);
  RecordProperty("worst_fraction_of_limit", fmt::format("{:.3f}", worst));
  // A dtype has about a quarter of the cases.
  EXPECT_GE(ran, is_special(kernel) ? 1 : kCases * usual_dtypes(kernel) / 8)
      << "the kernel refused most problems of the sweep";
}

INSTANTIATE_TEST_SUITE_P(Kernels, Sweep, testing::ValuesIn(all_rows()), name_of_row);

}  // namespace
}  // namespace vicinal
