// Lanes of the peer that should be here and are not. It may be unable to dial us, behind a NAT or a firewall: then we
// dial, and offer it the connection.
#include <algorithm>

#include "base/log.hpp"
#include "tcp/channel.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

/// What the peer is given to dial by itself, and between two rounds of offers at first.
constexpr std::chrono::milliseconds kPatience{1000};
constexpr std::chrono::milliseconds kLongestPause{4000};

}  // namespace

bool TcpChannel::take_offer(std::uint16_t lane, Connection connection) {
  if (over() || lane >= dialers_.size() || (peer_leaving_ && outbox_.drained())) return false;
  return dialers_[lane]->adopt(std::move(connection));
}

/// By index. Without any of them nothing is known of their number: the first tells.
std::vector<std::uint16_t> TcpChannel::missing_lanes(TimePoint now) const {
  const auto& unreachable = endpoint_.unreachable();
  const Duration patience = unreachable ? Duration(0) : std::max<Duration>(kPatience, 8 * options_.rtt);
  if (joined_lanes_ == 0) {
    const bool wanted =
        unreachable || (inbox_.expects() && now - std::max(dialing_since_, expecting_since_) >= patience);
    return wanted ? std::vector<std::uint16_t>{0} : std::vector<std::uint16_t>{};
  }
  std::vector<std::uint16_t> missing;
  for (std::uint16_t i = 0; i < peer_lanes_; ++i) {
    const Lane* lane = accepted_lane(i);
    const bool lost = lane != nullptr && worth_waiting_for(*lane) && now - lane->lost_at >= patience;
    if (lost || (lane == nullptr && now - joined_since_ >= patience)) missing.push_back(i);
  }
  return missing;
}

void TcpChannel::expect_lanes() {
  if (joined_lanes_ > 0 || !started_ || expecting_) return;
  expecting_ = true;
  expecting_since_ = Clock::now();
  endpoint_.request_timer(expecting_since_ + std::max<Duration>(kPatience, 8 * options_.rtt));
}

/// Returns when to look again.
TimePoint TcpChannel::offer_lanes(TimePoint now) {
  if (!started_ || peer_leaving_ || endpoint_.closing()) return TimePoint::max();
  if (!inbox_.expects()) expecting_ = false;  // asks for a timer again, with the next receive
  const bool complete = joined_lanes_ > 0 && joined_lanes_ >= peer_lanes_ &&
                        std::none_of(lanes_.begin(), lanes_.end(),
                                     [this](const auto& lane) { return !lane->dialed() && worth_waiting_for(*lane); });
  if (complete || (joined_lanes_ == 0 && !inbox_.expects() && !endpoint_.unreachable())) {
    offer_pause_ = Duration(0);
    return TimePoint::max();
  }
  if (now < next_offer_) return next_offer_;
  const auto missing = missing_lanes(now);
  if (!missing.empty()) {
    if (offer_pause_ == Duration(0)) {
      log::info("tcp: {} has not dialed {} of its connections; dialing it instead", who(), missing.size());
    }
    for (const std::uint16_t lane : missing) endpoint_.offer(*this, lane);
    offer_pause_ = std::clamp<Duration>(2 * offer_pause_, kPatience, kLongestPause);
  }
  next_offer_ = now + std::max<Duration>(offer_pause_, kPatience / 4);
  return next_offer_;
}

}  // namespace longspan::tcp
