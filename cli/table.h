#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace vicinal::cli {

/// A table for people: columns as wide as they need to be, numbers to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> header);

  /// Requires as many cells as the header has.
  void add(std::vector<std::string> cells);

  /// Every line with its newline. Columns whose cells all begin with a digit, a sign or "-" are aligned to the right.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the first is the header
};

/// Three significant digits where the number has them: "1.23", "12.3", "1234".
std::string format_significant(double value);

/// "1.23 ms": seconds in the unit that suits them.
std::string format_seconds(double seconds);

}  // namespace vicinal::cli
