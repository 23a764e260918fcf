#include "npy.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "vicinal/error.h"

namespace vicinal::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "arrays are read and written as they lie in memory");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kHeaderAlignment = 64;

struct Header {
  DType dtype = DType::fp32;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
};

[[noreturn]] void refuse(const std::string& path, std::string_view reason) {
  throw Error(ErrorKind::invalid_argument, fmt::format("{}: {}", path, reason));
}

[[noreturn]] void fail(const std::string& path, std::string_view action) {
  throw Error(ErrorKind::system, fmt::format("{}: cannot be {}: {}", path, action, std::strerror(errno)));
}

// The text after `'key':` in the header, which is the literal of a Python dictionary.
std::optional<std::string_view> value_of(std::string_view header, std::string_view key) {
  for (const char quote : {'\'', '"'}) {
    const std::string quoted = fmt::format("{}{}{}", quote, key, quote);
    std::size_t at = header.find(quoted);
    if (at == std::string_view::npos) continue;
    at = header.find_first_not_of(" :", at + quoted.size());
    if (at != std::string_view::npos) return header.substr(at);
  }
  return std::nullopt;
}

std::optional<DType> dtype_of(std::string_view description) {
  for (const auto& [name, dtype] : {std::pair{"f8", DType::fp64}, {"f4", DType::fp32}, {"f2", DType::fp16}}) {
    if (description == fmt::format("<{}", name) || description == fmt::format("={}", name)) return dtype;
  }
  return std::nullopt;
}

std::optional<std::vector<std::int64_t>> shape_of(std::string_view text) {
  std::vector<std::int64_t> shape;
  if (!text.starts_with('(')) return std::nullopt;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of("(, "), text.size()));
    if (text.empty()) return std::nullopt;
    if (text.front() == ')') return shape;
    std::int64_t extent = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), extent);
    if (error != std::errc() || extent < 0) return std::nullopt;
    shape.push_back(extent);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  }
}

Header parse_header(const std::string& path, std::string_view text) {
  const auto description = value_of(text, "descr");
  const auto order = value_of(text, "fortran_order");
  const auto extents = value_of(text, "shape");
  if (!description || !order || !extents) refuse(path, "its .npy header lacks descr, fortran_order or shape");

  const std::string_view quoted = description->substr(0, description->find_first_of(",}"));
  const std::string_view name = quoted.size() < 2 ? quoted : quoted.substr(1, quoted.find_last_of("'\"") - 1);
  const auto dtype = dtype_of(name);
  if (!dtype) {
    refuse(path, fmt::format("holds {}; allowed: little-endian float64, float32 or float16 (<f8, <f4, <f2)", quoted));
  }
  const auto shape = shape_of(*extents);
  if (!shape) refuse(path, "its .npy header has no readable shape");
  return {*dtype, order->starts_with("True"), *shape};
}

std::uint32_t little_endian(const std::string& bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::string read_exactly(const std::string& path, std::ifstream& file, std::size_t bytes) {
  std::string text(bytes, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(bytes)))
    refuse(path, "is not a .npy file: it ends too early");
  return text;
}

// From Fortran order (first dimension fastest) to C order.
Array transposed(const Array& fortran) {
  Array result(fortran.shape, fortran.dtype);
  const std::size_t element_bytes = size_of(fortran.dtype);
  const std::int64_t count = fortran.elements();
  for (std::int64_t at = 0; at < count; ++at) {
    std::int64_t source = 0;
    std::int64_t stride = count;
    std::int64_t rest = at;
    for (std::size_t d = fortran.shape.size(); d-- > 0;) {
      const std::int64_t extent = fortran.shape[d];
      stride /= extent;
      source += rest % extent * stride;
      rest /= extent;
    }
    std::memcpy(result.memory.data() + static_cast<std::size_t>(at) * element_bytes,
                fortran.memory.data() + static_cast<std::size_t>(source) * element_bytes, element_bytes);
  }
  return result;
}

}  // namespace

Array read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, "opened");
  if (read_exactly(path, file, kMagic.size()) != kMagic) refuse(path, "is not a .npy file");
  const std::string version = read_exactly(path, file, 2);
  const int major = static_cast<unsigned char>(version[0]);
  if (major < 1 || major > 3) refuse(path, fmt::format("is a .npy file of version {}; allowed: 1, 2 or 3", major));
  const std::size_t header_bytes = little_endian(read_exactly(path, file, major == 1 ? 2 : 4));
  const auto here = file.tellg();
  const auto end = file.seekg(0, std::ios::end).tellg();
  if (header_bytes > static_cast<std::size_t>(end - here)) refuse(path, "is not a .npy file: it ends too early");
  file.seekg(here);
  const Header header = parse_header(path, read_exactly(path, file, header_bytes));

  const auto available = static_cast<std::size_t>(end - file.tellg());
  std::size_t needed = size_of(header.dtype);
  bool fits = true;
  for (const std::int64_t extent : header.shape) {
    fits = fits && !__builtin_mul_overflow(needed, static_cast<std::size_t>(extent), &needed);
  }
  if (!fits || needed > available) {
    refuse(path, fmt::format("holds {} bytes of data, its shape ({}) of {} needs more", available,
                             fmt::join(header.shape, ", "), name_of(header.dtype)));
  }
  Array array(header.shape, header.dtype);
  if (!file.read(reinterpret_cast<char*>(array.memory.data()), static_cast<std::streamsize>(needed)))
    fail(path, "read");
  return header.fortran_order ? transposed(array) : array;
}

void write_npy(const std::string& path, const Array& array) {
  const std::string_view description = array.dtype == DType::fp64 ? "<f8" : array.dtype == DType::fp32 ? "<f4" : "<f2";
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", description,
                                   fmt::join(array.shape, ", "), array.shape.size() == 1 ? "," : "");
  const std::size_t preamble = kMagic.size() + 4;
  const std::size_t unpadded = preamble + header.size() + 1;
  header.append((kHeaderAlignment - unpadded % kHeaderAlignment) % kHeaderAlignment, ' ');
  header.push_back('\n');

  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!file) fail(path, "written");
  const char size[2] = {static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  file << kMagic << '\x01' << '\x00';
  file.write(size, 2) << header;
  file.write(reinterpret_cast<const char*>(array.memory.data()), static_cast<std::streamsize>(array.memory.size()));
  if (!file.flush()) fail(path, "written");
}

}  // namespace vicinal::cli
