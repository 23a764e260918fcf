#pragma once

// The part of DLPack's C exchange API that a library needs which reads tensors for the length of one call
// (https://dmlc.github.io/dlpack/latest/python_spec.html): a table of functions that an array type offers as a capsule
// in its attribute __dlpack_c_exchange_api__. It gives address, sizes and strides in nanoseconds, with no Python call.

#include <cstdint>

#include <nanobind/ndarray.h>

namespace vicinal::python {

struct DlpackExchangeApi {
  std::uint32_t major_version;  // tables of one major version grow at the end only; what follows is not needed here
  std::uint32_t minor_version;
  const DlpackExchangeApi* previous_version;
  int (*allocate)();  // this and the next two are not called here, so their parameters are left out
  int (*export_managed)();
  int (*import_managed)();
  /// Describes a live array; what `out` points to belongs to the array. 0, or -1 with a Python exception set. May be
  /// null.
  int (*describe)(void* python_object, nanobind::dlpack::dltensor* out);
};

inline constexpr std::uint32_t kDlpackMajorVersion = 1;
inline constexpr const char* kDlpackExchangeAttribute = "__dlpack_c_exchange_api__";
inline constexpr const char* kDlpackExchangeCapsule = "dlpack_exchange_api";

}  // namespace vicinal::python
