#include "check/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vicinal::check {
namespace {

/// No error is relative to elements that are smaller. Numbers of fp16 lie evenly there; weights that are less than the
/// smallest normal number of fp32, in which kernels compute, become zero, and gradients are up to thousands of them.
double negligible(DType dtype) {
  if (dtype == DType::fp64) return 0;
  return dtype == DType::fp16 ? 0x1p-14 : 0x1p-100;
}

/// `least`: the norm of as many negligible elements.
double ratio(double error_square, double exact_square, double magnitude_square, double least) {
  constexpr double kCancellation = 0.25;
  if (error_square == 0) return 0;
  double denominator = std::sqrt(std::max(exact_square, kCancellation * kCancellation * magnitude_square));
  if (denominator > 0) denominator = std::max(denominator, least);
  const double error = std::sqrt(error_square) / denominator;
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

}  // namespace

RelativeError relative_error(std::span<const double> result, std::span<const double> exact,
                             std::span<const double> magnitudes, DType dtype) {
  RelativeError error;
  if (exact.empty()) return error;
  error.row_elements = exact.size() / magnitudes.size();
  const std::size_t row_elements = error.row_elements;
  const auto least = [dtype](std::size_t elements) {
    return negligible(dtype) * std::sqrt(static_cast<double>(elements));
  };
  double error_total = 0, exact_total = 0, magnitude_total = 0;
  for (std::size_t row = 0; row < magnitudes.size(); ++row) {
    double error_square = 0, exact_square = 0;
    for (std::size_t i = row * row_elements; i < (row + 1) * row_elements; ++i) {
      if (std::isinf(exact[i]) && result[i] == exact[i]) continue;
      error_square += (result[i] - exact[i]) * (result[i] - exact[i]);
      exact_square += exact[i] * exact[i];
    }
    const double magnitude_square = magnitudes[row] * magnitudes[row];
    if (const double of_row = ratio(error_square, exact_square, magnitude_square, least(row_elements));
        of_row > error.worst_row) {
      error.worst_row = of_row;
      error.row = static_cast<std::int64_t>(row);
    }
    error_total += error_square;
    exact_total += exact_square;
    magnitude_total += magnitude_square;
  }
  error.overall = ratio(error_total, exact_total, magnitude_total, least(exact.size()));
  return error;
}

RelativeError error_limit(const Problem& problem, bool gradient, const RelativeError& straightforward) {
  // Weights and the result are each rounded once, by up to `unit`. Where all values of a row are alike a
  // straightforward computation hides that of the weights, whose errors cancel when they are divided by their sum. The
  // margin is for the root mean square of many elements' errors; of ten thousand single ones the worst has four times
  // it.
  constexpr double kWorstOfSingle = 4;
  const double of_row = std::max(1.0, kWorstOfSingle / std::sqrt(static_cast<double>(straightforward.row_elements)));
  const auto beside_straightforward = [&](double margin, double unit) {
    return RelativeError{2 * straightforward.overall + margin,
                         std::max(2 * straightforward.worst_row + margin * of_row, 2 * unit)};
  };
  const auto fixed = [](double limit) { return RelativeError{limit, limit}; };
  // An error of a score is one of its weight, relative to it, and scores are as large as their spread.
  const double spread = std::abs(problem.effective_scale()) * std::sqrt(static_cast<double>(problem.dim));
  const double of_scores = std::max(1.0, spread / 4);
  switch (problem.dtype) {
    case DType::fp64: return fixed(gradient ? 1e-11 : 1e-12);
    case DType::fp32: return fixed((gradient ? 1e-4 : 2e-5) * of_scores);
    case DType::fp16: return beside_straightforward(1e-3, 0x1p-11);
    case DType::bf16: break;
  }
  return beside_straightforward(4e-3, 0x1p-8);
}

double logsumexp_limit(DType dtype) { return dtype == DType::fp64 ? 1e-11 : 1e-4; }

}  // namespace vicinal::check
