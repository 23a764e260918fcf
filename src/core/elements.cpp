#include "core/elements.h"

#include "core/half.h"

namespace vicinal {
namespace {

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

template <class T>
void read(const void* data, DType dtype, std::int64_t offset, std::span<T> values) {
  with_format(dtype, [&]<class Format>(Format) {
    const auto* from = static_cast<const typename Format::Storage*>(data) + offset;
    for (T& value : values) value = static_cast<T>(Format::decode(*from++));
  });
}

template <class T>
void write(void* data, DType dtype, std::int64_t offset, std::span<const T> values) {
  with_format(dtype, [&]<class Format>(Format) {
    auto* to = static_cast<typename Format::Storage*>(data) + offset;
    for (const T value : values) *to++ = Format::encode(value);
  });
}

}  // namespace

void read_elements(const void* data, DType dtype, std::int64_t offset, std::span<double> values) {
  read(data, dtype, offset, values);
}

void read_elements(const void* data, DType dtype, std::int64_t offset, std::span<float> values) {
  read(data, dtype, offset, values);
}

void write_elements(void* data, DType dtype, std::int64_t offset, std::span<const double> values) {
  write(data, dtype, offset, values);
}

void write_elements(void* data, DType dtype, std::int64_t offset, std::span<const float> values) {
  write(data, dtype, offset, values);
}

double rounded_to(DType dtype, double value) {
  return with_format(dtype, [value]<class Format>(Format) { return Format::decode(Format::encode(value)); });
}

}  // namespace vicinal
