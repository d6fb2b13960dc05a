#include "train/digits.hpp"

#include <charconv>
#include <fstream>

namespace longspan::train {
namespace {

Status parse_line(const std::string& line, const std::string& where, Digits& to) {
  const char* at = line.data();
  const char* end = line.data() + line.size();
  for (int column = 0; column <= kPixels; ++column) {
    int value = -1;
    const auto [next, error] = std::from_chars(at, end, value);
    const int most = column < kPixels ? 16 : kClasses - 1;
    if (error != std::errc() || value < 0 || value > most) {
      return Status(StatusCode::kInvalidArgument,
                    where + ": column " + std::to_string(column + 1) + " should be 0 to " + std::to_string(most));
    }
    if (column < kPixels) to.pixels.push_back(static_cast<float>(value) / 16.0f);
    else to.labels.push_back(value);
    at = next < end && *next == ',' ? next + 1 : next;
  }
  return {};
}

}  // namespace

Result<DigitSets> load_digits(const std::string& path, int training_images) {
  std::ifstream file(path);
  if (!file) return Status(StatusCode::kInvalidArgument, path + ": cannot be read; give its place with --data");
  DigitSets sets;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    Digits& to = number <= training_images ? sets.train : sets.test;
    LONGSPAN_TRY(parse_line(line, path + ":" + std::to_string(number), to));
  }
  if (sets.test.size() == 0) return Status(StatusCode::kInvalidArgument, path + ": too few images");
  return sets;
}

}  // namespace longspan::train
