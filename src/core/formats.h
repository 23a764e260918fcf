#pragma once

// How numbers of each dtype are stored, for code that is compiled once for each.

#include <cstdint>

#include "core/half.h"
#include "vicinal/tensor.h"

namespace vicinal {

struct Float64 {
  using Storage = double;
  static double encode(double value) { return value; }
  static double decode(double stored) { return stored; }
};

struct Float32 {
  using Storage = float;
  static float encode(double value) { return static_cast<float>(value); }
  static double decode(float stored) { return stored; }
};

template <class Format>
struct Stored16 {
  using Storage = std::uint16_t;
  static std::uint16_t encode(double value) { return Format::encode(value); }
  static double decode(std::uint16_t stored) { return Format::decode(stored); }
};

/// Calls visit with the format of `dtype`.
template <class Visit>
auto with_format(DType dtype, Visit visit) {
  switch (dtype) {
    case DType::fp64: return visit(Float64{});
    case DType::fp32: return visit(Float32{});
    case DType::fp16: return visit(Stored16<Fp16>{});
    case DType::bf16: break;
  }
  return visit(Stored16<Bf16>{});
}

}  // namespace vicinal
