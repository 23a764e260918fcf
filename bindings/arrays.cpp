#include "arrays.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "dlpack_exchange.h"
#include "vicinal/error.h"

namespace nb = nanobind;

namespace vicinal::python {
namespace {

constexpr std::array kDTypes{DType::fp64, DType::fp32, DType::fp16, DType::bf16};

/// A type that was registered, held so that its address stays its own, and its table.
struct ExchangeType {
  PyTypeObject* type;
  const DlpackExchangeApi* api;
};

// A handful at most: one for every array library that a process uses. The GIL protects it.
std::vector<ExchangeType>& exchange_types() {
  static std::vector<ExchangeType> types;
  return types;
}

const DlpackExchangeApi* exchange_api_of(nb::handle object) {
  for (const ExchangeType& known : exchange_types()) {
    if (PyType_IsSubtype(Py_TYPE(object.ptr()), known.type) != 0) return known.api;
  }
  return nullptr;
}

DType dtype_of(const nb::dlpack::dtype& dtype, const char* name) {
  using Code = nb::dlpack::dtype_code;
  if (dtype.lanes == 1 && dtype.code == static_cast<std::uint8_t>(Code::Float)) {
    if (dtype.bits == 64) return DType::fp64;
    if (dtype.bits == 32) return DType::fp32;
    if (dtype.bits == 16) return DType::fp16;
  }
  if (dtype == nb::dlpack::dtype{static_cast<std::uint8_t>(Code::Bfloat), 16, 1}) return DType::bf16;
  static constexpr std::array<std::string_view, 7> kKinds{"int",    "uint",    "float", "opaque",
                                                          "bfloat", "complex", "bool"};
  const std::string_view kind = dtype.code < kKinds.size() ? kKinds[dtype.code] : "exotic";
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} has dtype {}{}; allowed: fp64, fp32, fp16, bf16", name, kind, dtype.bits));
}

Device device_of(const nb::dlpack::device& device, const char* name) {
  if (device.device_type == nb::device::cpu::value) return {};
  if (device.device_type == nb::device::cuda::value) return {DeviceType::cuda, device.device_id};
  throw Error(ErrorKind::unsupported,
              fmt::format("{} is on a device of DLPack type {}; supported: cpu, cuda", name, device.device_type));
}

void require_rank(std::int64_t rank, const char* name) {
  if (rank >= 1 && rank <= kMaxTensorRank) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} has {} dimensions; allowed: 1 to {}", name, rank, kMaxTensorRank));
}

Tensor tensor_of(const nb::dlpack::dltensor& described, const char* name) {
  require_rank(described.ndim, name);
  Tensor tensor;
  tensor.rank = described.ndim;
  tensor.dtype = dtype_of(described.dtype, name);
  tensor.device = device_of(described.device, name);
  tensor.data = static_cast<std::byte*>(described.data) + described.byte_offset;
  std::copy_n(described.shape, tensor.rank, tensor.sizes.begin());
  if (described.strides != nullptr) {
    std::copy_n(described.strides, tensor.rank, tensor.strides.begin());
  } else {  // DLPack's way to say contiguous
    std::int64_t stride = 1;
    for (int i = tensor.rank - 1; i >= 0; --i) {
      tensor.strides[i] = stride;
      stride *= tensor.sizes[i];
    }
  }
  return tensor;
}

/// Large results come from the system as pages that nothing has touched. To take them one small page at a time, from
/// several threads, can last as long as attention with a small window; NumPy asks for huge pages too.
void prefer_huge_pages([[maybe_unused]] const Tensor& tensor) {
#ifdef MADV_HUGEPAGE
  constexpr std::size_t kLeastBytes = std::size_t{4} << 20;
  constexpr std::uintptr_t kPage = 4096;
  std::size_t bytes = size_of(tensor.dtype);
  for (int i = 0; i < tensor.rank; ++i) bytes *= static_cast<std::size_t>(tensor.sizes[i]);
  if (bytes < kLeastBytes) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(tensor.data) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<std::uintptr_t>(tensor.data) + bytes) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin,
          MADV_HUGEPAGE);  // a wish: whether it is granted changes no result
#endif
}

}  // namespace

Array::Array(std::uintptr_t address, const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides,
             std::string_view dtype) {
  require_rank(static_cast<std::int64_t>(shape.size()), "array");
  if (strides.size() != shape.size()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("strides has {} entries; allowed: {}, one per dimension", strides.size(), shape.size()));
  }
  tensor.data = reinterpret_cast<void*>(address);
  tensor.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.sizes.begin());
  std::copy(strides.begin(), strides.end(), tensor.strides.begin());
  tensor.dtype = dtype_named(dtype);
}

void register_array_type(nb::type_object type) {
  const nb::object capsule = nb::getattr(type, kDlpackExchangeAttribute, nb::none());
  const DlpackExchangeApi* api = nullptr;
  if (PyCapsule_IsValid(capsule.ptr(), kDlpackExchangeCapsule) != 0) {
    api = static_cast<const DlpackExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), kDlpackExchangeCapsule));
  }
  while (api != nullptr && api->major_version > kDlpackMajorVersion) api = api->previous_version;
  if (api == nullptr || api->major_version != kDlpackMajorVersion || api->describe == nullptr) {
    const auto message = fmt::format("{} offers no DLPack exchange API of version {} ({})", nb::repr(type).c_str(),
                                     kDlpackMajorVersion, kDlpackExchangeAttribute);
    throw nb::type_error(message.c_str());
  }
  exchange_types().push_back({reinterpret_cast<PyTypeObject*>(type.release().ptr()), api});
}

Tensor tensor_of(nb::handle object, const char* name) {
  if (object.is_none()) return {};
  if (const DlpackExchangeApi* api = exchange_api_of(object)) {
    nb::dlpack::dltensor described;
    if (api->describe(object.ptr(), &described) != 0) {
      // PyTorch raises RuntimeError; a kind of its own tells callers that the tensor has no memory to read.
      const auto message = fmt::format("{} has no memory that can be read", name);
      nb::chain_error(PyExc_BufferError, "%s", message.c_str());
      nb::raise_python_error();
    }
    return tensor_of(described, name);
  }
  Array* array = nullptr;
  if (nb::try_cast(object, array) && array != nullptr) return array->tensor;
  const auto message = fmt::format("{} is of type {}; allowed: an Array or an object of a registered type", name,
                                   nb::repr(object.type()).c_str());
  throw nb::type_error(message.c_str());
}

Tensor result_of(nb::handle object, const char* name) {
  const Tensor tensor = tensor_of(object, name);
  if (tensor.device.type == DeviceType::cpu) prefer_huge_pages(tensor);
  return tensor;
}

DType dtype_named(std::string_view name) {
  const auto* found = std::find_if(kDTypes.begin(), kDTypes.end(), [&](DType dtype) { return name_of(dtype) == name; });
  if (found != kDTypes.end()) return *found;
  throw Error(ErrorKind::invalid_argument, fmt::format("dtype = {}; allowed: fp64, fp32, fp16, bf16", name));
}

}  // namespace vicinal::python
