#pragma once

// From Python's arrays to the library's tensors. An array is either an `Array`, which says itself where its elements
// lie, or an object of a type that offers DLPack's C exchange API (PyTorch's tensors); no framework is known by name.

#include <cstdint>
#include <string_view>
#include <vector>

#include <nanobind/nanobind.h>

#include "vicinal/tensor.h"

namespace vicinal::python {

/// A strided array in memory that Python keeps alive.
struct Array {
  Tensor tensor;

  /// Strides are in elements. Throws `Error` for more than six dimensions or an unknown dtype.
  Array(std::uintptr_t address, const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides,
        std::string_view dtype);
};

/// From now on, `tensor_of` reads instances of this type (and of its subclasses) through its DLPack exchange API.
/// Throws TypeError where it offers none of a version that is known.
void register_array_type(nanobind::type_object type);

/// None is an absent tensor. `name` is the argument's, for error messages. Throws TypeError for an object of another
/// type and `Error` for a dtype or device that the library does not know.
Tensor tensor_of(nanobind::handle object, const char* name);

/// The same for a result that was allocated for this call and will be written whole.
Tensor result_of(nanobind::handle object, const char* name);

/// The dtype called "fp64", "fp32", "fp16" or "bf16". Throws `Error` for any other name.
DType dtype_named(std::string_view name);

}  // namespace vicinal::python
