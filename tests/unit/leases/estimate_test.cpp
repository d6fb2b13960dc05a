#include <algorithm>
#include <deque>
#include <functional>
#include <vector>

#include "runtime/link_estimate.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::runtime;
using namespace std::chrono_literals;

namespace {

constexpr double kRate = 100e6;  // bytes/s, as stated

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// A drop-tail link in virtual time, and a sender that always has data and sends at its pace: no congestion control of its
/// own, so that what happens is the estimate's doing.
class Path {
 public:
  Path(double real_rate, double round_trip, double buffer_bytes)
      : rate(real_rate), rtt(round_trip), buffer(buffer_bytes), estimate({buffer_bytes / kRate, 0}) {}

  /// Sends for a time; reports every 100 ms, as a rank does.
  void run(Duration time) {
    for (const TimePoint end = now_ + time; now_ < end;) step();
  }
  /// Share of the link's real rate that was used since the last call.
  double used() {
    const double share = delivered_ / (rate * seconds(now_ - since_));
    delivered_ = 0;
    since_ = now_;
    return share;
  }

  double rate, rtt, buffer;
  double random_loss = 0;
  double competitor = 0;  // bytes/s that it sends, whatever happens
  double sender_limit = 1e30;
  double dropped = 0;
  double largest_queue = 0;
  LinkEstimate estimate;

 private:
  void step() {
    constexpr Duration kStep = 1ms;
    const double dt = seconds(kStep);
    const double pace = estimate.share() * kRate;
    const double ours = std::min(pace, sender_limit) * dt;
    const double all = ours + competitor * dt;
    const double through = std::min(queue_ + all, rate * dt);
    queue_ += all - through;
    const double over = std::max(0.0, queue_ - buffer);
    queue_ -= over;
    dropped += over;
    largest_queue = std::max(largest_queue, queue_);
    // In a queue that all share, what leaves is mixed as what came.
    const double lost = over * ours / all;
    mix_ += std::min(1.0, dt / std::max(dt, queue_ / rate)) * (ours / all - mix_);
    const double arrives = std::min(ours + queue_, through * mix_) * (1 - random_loss);
    sample_.seconds += dt;
    sample_.delivered += arrives;
    sample_.allowed += pace_then(pace) * dt;
    if (queue_ / rate > 0.003) {
      sample_.queued_delivered += arrives;
      sample_.queued_allowed += pace_then(pace) * dt;
      sample_.queued_stated += kRate * dt;
    }
    sample_.packets += ours;
    sample_.retransmits += lost + ours * random_loss;
    sample_.rtt = rtt + queue_ / rate;
    sample_.min_rtt = least_ = std::min(least_, sample_.rtt);
    delivered_ += arrives;
    now_ += kStep;
    if (sample_.seconds < 0.1) return;
    estimate.observe(sample_, now_);
    sample_ = {};
  }
  /// What arrives now was paced a queue's time ago.
  double pace_then(double pace) {
    paces_.push_back(pace);
    const auto delay = static_cast<std::size_t>(1e3 * queue_ / rate);
    while (paces_.size() > delay + 1) paces_.pop_front();
    return paces_.front();
  }

  TimePoint now_{1h};
  TimePoint since_{1h};
  LinkSample sample_;
  std::deque<double> paces_;
  double queue_ = 0;
  double mix_ = 1;
  double least_ = 1e9;
  double delivered_ = 0;
};

}  // namespace

TEST_CASE("A truthful link is never touched, however busy, lossy or slow its sender is") {
  for (const double rtt : {0.002, 0.04, 0.15}) {
    for (const double loss : {0.0, 1e-3, 1e-2}) {
      Path path(kRate / 0.99, rtt, 8e6);
      path.random_loss = loss;
      path.run(20s);
      CHECK(path.estimate.share() == 1);
    }
  }
  Path slow(kRate / 0.99, 0.04, 8e6);
  slow.sender_limit = 0.3 * kRate;
  slow.run(20s);
  CHECK(slow.estimate.share() == 1);
  CHECK(slow.dropped == 0);
}

TEST_CASE("A link that carries less than stated is found within two seconds, three where it is far or much slower, and stays full without a standing queue") {
  for (const double real : {0.3, 0.5, 0.6, 0.8, 0.9}) {
    for (const double rtt : {0.01, 0.04, 0.15}) {
      CAPTURE(real, rtt);
      Path path(real * kRate, rtt, 8e6);
      path.run(rtt > 0.1 || real < 0.5 ? 3s : 2s);
      path.used();
      path.dropped = path.largest_queue = 0;
      for (int i = 0; i < 10; ++i) {
        path.run(1s);
        CHECK(path.used() > 0.85);
      }
      CHECK(path.dropped == 0);
      CHECK(path.largest_queue < 4e6);
    }
  }
}

TEST_CASE("A link a little slower than stated drops nothing either") {
  for (const double real : {0.96, 0.98, 0.99}) {
    CAPTURE(real);
    Path path(real * kRate, 0.04, 8e6);
    path.run(20s);
    CHECK(path.used() > 0.9);
    CHECK(path.dropped == 0);
  }
}

TEST_CASE("A link that loses half its rate is followed within two seconds, and so is its return") {
  Path path(1.01 * kRate, 0.04, 8e6);
  path.run(3s);
  CHECK(path.estimate.share() == 1);
  path.rate = 0.5 * kRate;
  path.run(2s);
  path.used();
  path.dropped = 0;
  for (int i = 0; i < 8; ++i) {
    path.run(1s);
    CHECK(path.used() > 0.85);
  }
  CHECK(path.dropped == 0);
  path.rate = 1.01 * kRate;
  path.run(9s);
  path.used();
  path.run(2s);
  CHECK(path.used() > 0.95);
  CHECK(path.estimate.share() == 1);
}

TEST_CASE("A shallow buffer shows a slower link by what it drops") {
  Path path(0.6 * kRate, 0.04, 250e3);
  path.run(2s);
  path.used();
  const double sent_before = path.dropped;
  path.run(5s);
  CHECK(path.used() > 0.85);
  CHECK(path.dropped - sent_before < 0.03 * 5 * path.rate);
}

TEST_CASE("Beside a competitor that gives way to nobody, the rest of the link is used, and all of it when that one leaves") {
  Path path(1.01 * kRate, 0.04, 8e6);
  path.run(2s);
  path.competitor = 0.4 * kRate;
  path.run(2s);
  path.used();
  path.run(5s);
  CHECK(path.used() > 0.5);
  path.competitor = 0;
  path.run(10s);
  CHECK(path.estimate.share() == 1);
}

TEST_CASE("A longer route is no queue: the rate comes back") {
  Path path(1.01 * kRate, 0.04, 8e6);
  path.run(2s);
  path.rtt = 0.09;
  path.run(15s);
  path.used();
  path.run(2s);
  CHECK(path.used() > 0.93);
}
