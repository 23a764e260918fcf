#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace vicinal {

/// What kind of mistake an `Error` reports; bindings map it to the exception type their language expects.
enum class ErrorKind {
  invalid_argument,  ///< an argument is outside its allowed range; nothing was computed or written
  unsupported,       ///< the arguments are legal, but no kernel of this build can do it on this device
  system,            ///< the machine failed: out of memory, a CUDA error, an unreadable file
};

/// The one exception type of the library. `what()` names the argument, its value and what is allowed.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

/// Success, or the reason why not. Inside the library errors travel as values; only the public entry points throw.
class [[nodiscard]] Status {
 public:
  Status() = default;

  static Status refuse(std::string reason) {
    Status status;
    status.reason_ = std::move(reason);
    return status;
  }

  [[nodiscard]] bool ok() const noexcept { return reason_.empty(); }
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }

 private:
  std::string reason_;  // empty means success
};

}  // namespace vicinal
