#pragma once

// What every kernel's cost is made of: the work a problem asks for, and a model of the machine that turns work into
// seconds. Estimates only rank kernels and tilings on one machine; they are no promise.

#include <cstdint>

#include "vicinal/plan.h"

namespace vicinal {

/// Scalar multiply-adds for `pairs` (query, key) pairs per head and batch entry. Forward: the score and its share of
/// the output. Backward: the score again, dP, dV, dQ and dK. Unfused: one of these; for the bias one addition.
double multiply_adds(const Problem& grid, Operation operation, double pairs);

/// Bytes to and from memory when each tensor moves once; masked slots of weights included, a bias not.
double compulsory_bytes(const Problem& grid, Operation operation);

/// Elements of the weights of all batch entries and heads, masked slots included.
double weight_elements(const Problem& grid);

/// Seconds on all cores of this machine, for a kernel that does `per_cycle` multiply-adds per core and cycle.
double cpu_seconds(double multiply_adds, double per_cycle, double bytes);

}  // namespace vicinal
