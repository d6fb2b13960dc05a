#include "runtime/link_probe.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr double kFollows = 0.93;    // of a higher rate arrives: the link carries it
constexpr double kQueue = 0.003;     // s that a step adds to the queue: the link does not carry it
constexpr double kFirstStep = 1.08;
constexpr double kSecondStep = 1.25;
constexpr double kLargestStep = 1.5;
constexpr Duration kMostPatience = 1s;

}  // namespace

void LinkProbe::wait(Duration patience) noexcept {
  patience_ = patience;
  step_ = kFirstStep;
}

Duration LinkProbe::longer_patience() const noexcept { return std::min(2 * patience_, kMostPatience); }

double LinkProbe::begin(double share, double least_queue) noexcept {
  before_ = share;
  queue_before_ = least_queue;
  grown_ = 0;
  return share * step_;
}

void LinkProbe::widen() noexcept { step_ = step_ < kSecondStep ? kSecondStep : kLargestStep; }

LinkProbe::Verdict LinkProbe::judge(const LinkReading& reading, double least_queue) noexcept {
  if (reading.waits && least_queue > queue_before_ + kQueue) return Verdict::kQueues;
  grown_ += reading.waits && reading.arrives >= kFollows ? 1 : 0;
  return grown_ >= 3 ? Verdict::kCarries : Verdict::kGoesOn;
}

}  // namespace longspan::runtime
