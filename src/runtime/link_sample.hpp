#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "base/clock.hpp"

namespace longspan::runtime {

inline Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

/// What is counted of a flow over a WAN link, from its beginning on. Bytes are of IP packets.
struct LinkCounts {
  double delivered = 0;         ///< bytes that arrived, counted where they arrive
  double allowed = 0;           ///< bytes that its pace let through meanwhile
  double waited_delivered = 0;  ///< of these, while more data waited for the pace
  double waited_allowed = 0;
  double waited_stated = 0;     ///< what the pace would have let through then, if the link were as stated
  double packets = 0;           ///< sent, those sent again included
  double retransmits = 0;

  /// The counts between this one (0) and a later one (1).
  LinkCounts towards(const LinkCounts& later, double part) const;
  LinkCounts& operator+=(const LinkCounts& other);
  LinkCounts& operator-=(const LinkCounts& other);
  bool sane() const;
};

/// One moment of one flow, as the far end saw it.
struct LinkPoint {
  TimePoint at{};    ///< of the sender's clock, less the way of an empty link: when it left the queue
  double queue = 0;  ///< s that what arrived then had waited on its way there
  double rtt = 0;    ///< s, without a queue
  LinkCounts counts;
};

/// What all flows of a region over one link did in the same window of time.
struct LinkSample {
  double seconds = 0;
  LinkCounts counts;
  double stated = 0;        ///< bytes that the link would carry in that time, were it as stated
  double least_queue = 0;   ///< s, the least that anything waited: more than nothing, and the link was busy throughout
  double queue = 0;         ///< s, at the end
  double rtt = 0;           ///< s, without a queue
  TimePoint sent_from{};    ///< when the first of it was sent
};

}  // namespace longspan::runtime
