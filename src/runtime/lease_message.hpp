#pragma once

#include <cstdint>

#include "runtime/link_sample.hpp"

namespace longspan::runtime {

/// What lease desks tell each other. Between ranks of a region: kClaim, kFill and kReport; between the two ends of a
/// channel over a WAN link: kAsk and kTold.
struct LeaseMessage {
  enum class Kind : std::uint32_t { kClaim = 1, kFill, kReport, kAsk, kTold };
  static constexpr int kKinds = 6;

  Kind kind = Kind::kClaim;
  std::uint32_t link = 0;  ///< index into Topology::wan
  double weight = 0;       ///< of a claim; of a fill: the level
  double cap = 0;          ///< of a fill: the link's share
  std::int32_t peer = 0;   ///< of a report: the rank at the far end
  std::int32_t more = 0;   ///< of a report: 0 if nothing comes for now
  std::int64_t sent = 0;   ///< ns of the sender's clock; of what is told: of the asker's clock, when it asked
  std::int64_t seen = 0;   ///< of what is told: ns of the sender's clock
  double bytes = 0;        ///< of what is told: bytes and packets that have arrived
  double packets = 0;
  LinkPoint point{};       ///< of a report
};

}  // namespace longspan::runtime
