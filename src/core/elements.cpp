#include "core/elements.h"

#include "core/formats.h"

namespace vicinal {
namespace {

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
