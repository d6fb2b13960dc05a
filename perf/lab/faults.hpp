#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "longspan/status.hpp"
#include "longspan/topology.hpp"

namespace longspan::lab {

/// A change of one directed WAN link at an instant counted from the start of the ranks. What is absent stays.
struct LinkChange {
  Duration at{0};
  std::size_t link = 0;  ///< index into Topology::wan
  std::optional<bool> down;
  std::optional<Bandwidth> rate;
  std::optional<double> loss;
  std::optional<Duration> delay;
};

/// Reads a fault such as "at=2s wan=eu:us down=5s", "at=1s wan=eu:us rate=100Mbit/s for=3s both": the changes it makes,
/// including the one that undoes it. Errors name the word that is wrong and what is expected.
Result<std::vector<LinkChange>> parse_fault(const std::string& text, const Topology& topology);

}  // namespace longspan::lab
