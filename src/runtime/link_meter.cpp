#include "runtime/link_meter.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr Duration kWindow = 100ms;    // of which schedulers and packets that wait for each other make little
constexpr Duration kStep = 50ms;
constexpr Duration kRemembered = 1s;
constexpr Duration kSilent = 1s;       // a flow that tells nothing more has ended
constexpr std::size_t kEnough = 3;     // points in a window
constexpr std::size_t kMostPoints = 200;

}  // namespace

LinkCounts LinkMeter::Flow::until(TimePoint when) const {
  if (when <= points.front().at) return points.front().counts;
  const auto after =
      std::find_if(points.begin(), points.end(), [when](const LinkPoint& point) { return point.at > when; });
  if (after == points.end()) return points.back().counts;
  const LinkPoint& before = *std::prev(after);
  const std::chrono::duration<double> passed = when - before.at;
  return before.counts.towards(after->counts, passed / std::chrono::duration<double>(after->at - before.at));
}

void LinkMeter::told(int rank, int peer, LinkPoint point, TimePoint sent, bool more, TimePoint now) {
  // What took least says best how the clocks differ.
  Duration& offset = offsets_.try_emplace(rank, Duration::max()).first->second;
  offset = std::min(offset, now - sent);
  point.at += offset;
  Flow& flow = flows_[{rank, peer}];
  // Overtaken by a later one.
  if (!flow.points.empty() && point.counts.allowed < flow.points.back().counts.allowed) return;
  if (!flow.points.empty() && point.at < flow.points.back().at) point.at = flow.points.back().at;
  flow.points.push_back(point);
  flow.more = more;
  while (flow.points.size() > 2 && (point.at - flow.points[1].at > kRemembered || flow.points.size() > kMostPoints)) {
    flow.points.pop_front();
  }
}

void LinkMeter::left(int rank) {
  std::erase_if(flows_, [rank](const auto& each) { return each.first.first == rank; });
}

std::optional<LinkSample> LinkMeter::window(const std::function<bool(int)>& uses) {
  TimePoint newest{};
  for (const auto& [key, flow] : flows_) newest = std::max(newest, flow.points.back().at);
  TimePoint end = newest;
  std::map<int, bool> tells;
  for (const auto& [key, flow] : flows_) {
    if (!flow.more || newest - flow.points.back().at > kSilent) continue;
    tells[key.first] = true;
    end = std::min(end, flow.points.back().at);
  }
  const TimePoint begin = end - kWindow;
  if (tells.empty() || end < looked_at_ + kStep) return std::nullopt;
  LinkSample sample;
  sample.seconds = std::chrono::duration<double>(kWindow).count();
  sample.least_queue = sample.queue = sample.rtt = 1e9;
  std::size_t points = 0;
  TimePoint latest{};
  for (const auto& [key, flow] : flows_) {
    // Who has just begun has not been heard, and what it sends would be missing.
    if (uses(key.first) && !tells[key.first]) return std::nullopt;
    if (flow.points.back().at <= begin) continue;
    if (flow.points.front().at > begin && flow.points.front().counts.allowed > 0) return std::nullopt;
    LinkCounts passed = flow.until(end);
    passed -= flow.until(begin);
    sample.counts += passed;
    for (const LinkPoint& point : flow.points) {
      if (point.at < begin || point.at > end) continue;
      ++points;
      sample.least_queue = std::min(sample.least_queue, point.queue);
      if (point.at >= latest) sample.queue = point.queue;
      latest = std::max(latest, point.at);
      sample.rtt = std::min(sample.rtt, point.rtt);
      const TimePoint sent = point.at - to_duration(point.queue);
      if (sample.sent_from == TimePoint{} || sent < sample.sent_from) sample.sent_from = sent;
    }
  }
  if (points < kEnough) return std::nullopt;
  looked_at_ = end;
  // What arrived between the beginning and the first point was sent before that.
  sample.sent_from = std::min(sample.sent_from, begin);
  return sample;
}

}  // namespace longspan::runtime
