#pragma once

// How far a result is from the exact one, and how far it may be.

#include <cstddef>
#include <cstdint>
#include <span>

#include "vicinal/problem.h"
#include "vicinal/tensor.h"

namespace vicinal::check {

/// ||result - exact|| / ||exact||, over everything and for the worst row. Absolute errors would hide dropped tiles:
/// with ten thousand keys an output is about 0.01.
struct RelativeError {
  double overall = 0;
  double worst_row = 0;
  std::int64_t row = 0;          ///< the worst one
  std::size_t row_elements = 1;  ///< of each row
};

/// `magnitudes`: for each row, how large it would be without cancellation; rows and totals that are much smaller are
/// measured against a quarter of it, and those of elements below 2^-14 (fp16) or 2^-100 (bf16, fp32) against these,
/// unless zero is exact. A result that is not finite has an infinite error, unless the exact one is the same infinity.
RelativeError relative_error(std::span<const double> result, std::span<const double> exact,
                             std::span<const double> magnitudes, DType dtype = DType::fp64);

/// The limits for a result: fixed for fp32, but where the scale makes scores large, and fp64, for fp16 and bf16
/// relative to the error of a straightforward computation in the same precision. Where rows have few elements the
/// errors of one may average less than those of another.
RelativeError error_limit(const Problem& problem, bool gradient, const RelativeError& straightforward);

/// The largest absolute error of a logsumexp.
double logsumexp_limit(DType dtype);

}  // namespace vicinal::check
