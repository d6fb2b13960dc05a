#include "path.hpp"

#include <algorithm>
#include <utility>

namespace longspan::runtime::test {
namespace {

using namespace std::chrono_literals;

constexpr Duration kStep = 1ms;
constexpr double kPacket = 1500;
constexpr Duration kClocksDiffer = 17s;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

Path::Path(double real_rate, double round_trip, double buffer_bytes, unsigned seed)
    : rate(real_rate), rtt(round_trip), buffer(buffer_bytes), estimate_({buffer_bytes / kRate, 0}), random_(seed) {}

void Path::run(Duration time) {
  for (const TimePoint end = now_ + time; now_ < end;) step();
}

double Path::used() {
  const double share = used_ / (rate * seconds(now_ - since_));
  used_ = 0;
  since_ = now_;
  return share;
}

Duration Path::too_high() {
  high_since_ = TimePoint::max();
  return std::exchange(high_, Duration{0});
}

double Path::lowest() { return std::exchange(lowest_, 1e9); }

spi::ChannelStats Path::stats(const Rank& rank) const {
  const auto nanoseconds = [](double s) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(s));
  };
  spi::ChannelStats stats;
  stats.unsent_bytes = 1;
  stats.packets_sent = static_cast<std::uint64_t>(rank.sent / kPacket);
  stats.retransmits = static_cast<std::uint64_t>(rank.lost / kPacket);
  stats.min_rtt = nanoseconds(rtt);
  stats.rtt = stats.least_rtt = nanoseconds(rtt + queue_ / rate + reverse_queue);
  return stats;
}

void Path::competes(double dt) {
  if (!cubic) {
    window_ = 0;
    return;
  }
  const double round_trip = rtt + queue_ / rate;
  if (window_ == 0) window_ = 0.05 * kRate * round_trip;
  window_ += 0.25 * kRate * rtt * dt;  // it comes back within seconds
  if (dropped > dropped_before_ && now_ - gave_way_ > to_duration(round_trip)) {
    window_ *= 0.7;
    gave_way_ = now_;
  }
  competitor = window_ / round_trip;
}

void Path::send(double dt) {
  double ours = 0;
  for (const Rank& rank : ranks_) ours += std::min(rank.pace, sender_limit) * dt;
  const double all = ours + competitor * dt;
  const double taken = all > 0 ? std::min(1.0, std::max(0.0, buffer + rate * dt - queue_) / all) : 1;
  dropped_before_ = dropped;
  for (Rank& rank : ranks_) {
    const double sends = std::min(rank.pace, sender_limit) * dt;
    rank.sent += sends;
    rank.accepted += sends * taken * (1 - random_loss);
    rank.lost += sends * (1 - taken * (1 - random_loss));
    used_ += sends * taken * (1 - random_loss);
  }
  dropped += all * (1 - taken);
  const double served = std::min(rate * dt, queue_ + all * taken);
  queue_ = std::max(0.0, queue_ + all * taken - served);
  largest_queue = std::max(largest_queue, queue_);
}

/// What was asked waits for all that was in the queue before it.
void Path::questions(double served) {
  for (Packet& each : asked_) each.ahead -= served;
  std::exponential_distribution<double> late(1 / lateness);
  while (!asked_.empty() && asked_.front().ahead <= 0) {
    Packet& first = asked_.front();
    first.count.seen = now_ + to_duration(rtt / 2 + late(random_)) + kClocksDiffer;
    answers_.push_back({first.rank, first.count, now_ + to_duration(rtt + reverse_queue)});
    asked_.pop_front();
  }
  if (now_ < ask_at_) return;
  ask_at_ = now_ + 25ms;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    ranks_[r].meter.asks(stats(ranks_[r]), now_);
    asked_.push_back({r, {now_, {}, ranks_[r].accepted, ranks_[r].accepted / kPacket}, queue_});
  }
}

void Path::step() {
  const double dt = seconds(kStep);
  for (Rank& rank : ranks_) {
    const double pace = estimate_.share() * kRate / kRanks;
    if (pace == rank.pace) continue;
    rank.pace = pace;
    rank.meter.paced(pace, kRate / kRanks, now_);
  }
  competes(dt);
  send(dt);
  now_ += kStep;
  questions(rate * dt);
  while (!answers_.empty() && answers_.front().at <= now_) {
    const Answer answer = answers_.front();
    answers_.pop_front();
    const auto point = ranks_[answer.rank].meter.told(answer.count, stats(ranks_[answer.rank]), now_);
    if (!point) continue;
    meter_.told(static_cast<int>(answer.rank), 9, *point, now_, true, now_);
    auto sample = meter_.window([](int) { return true; });
    if (!sample) continue;
    sample->stated = kRate * sample->seconds;
    estimate_.observe(*sample, now_);
  }
  lowest_ = std::min(lowest_, share() * kRate / std::min(rate, kRate));
  if (share() * kRate <= 1.05 * rate) high_since_ = TimePoint::max();
  else if (high_since_ == TimePoint::max()) high_since_ = now_;
  if (high_since_ != TimePoint::max()) high_ = std::max(high_, now_ - high_since_);
}

}  // namespace longspan::runtime::test
