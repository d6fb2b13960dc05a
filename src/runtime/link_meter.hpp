#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/link_sample.hpp"

namespace longspan::runtime {

/// At a steward: what all ranks of the region say of their flows over one link, brought together in windows of time.
/// Flows report at different moments; what each had done by a moment in between is interpolated, so that one flow's
/// bytes are never added to what another did at another time.
class LinkMeter {
 public:
  /// A moment of the flow from `rank` (of our region) to `peer`. `sent`: of the rank's clock, when it said so. `more`:
  /// false if the flow ends here.
  void told(int rank, int peer, LinkPoint point, TimePoint sent, bool more, TimePoint now);
  /// What was seen since the last window, if all flows have told enough. `uses`: whether a rank uses the link now.
  std::optional<LinkSample> window(const std::function<bool(int rank)>& uses);
  void left(int rank);

 private:
  struct Flow {
    std::deque<LinkPoint> points;
    bool more = false;
    LinkCounts until(TimePoint when) const;
  };

  std::map<std::pair<int, int>, Flow> flows_;
  std::map<int, Duration> offsets_;  // our clock less the rank's, by rank
  TimePoint looked_at_{};            // the end of the last window
};

}  // namespace longspan::runtime
