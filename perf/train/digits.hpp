#pragma once

#include <string>
#include <vector>

#include "longspan/status.hpp"

namespace longspan::train {

inline constexpr int kPixels = 64;
inline constexpr int kClasses = 10;

/// Images as rows of kPixels values in [0, 1], and what they show.
struct Digits {
  std::vector<float> pixels;
  std::vector<int> labels;

  int size() const noexcept { return static_cast<int>(labels.size()); }
  const float* image(int i) const { return pixels.data() + static_cast<std::size_t>(i) * kPixels; }
};

struct DigitSets {
  Digits train, test;
};

/// Reads digits.csv. Errors say file:line.
Result<DigitSets> load_digits(const std::string& path, int training_images);

}  // namespace longspan::train
