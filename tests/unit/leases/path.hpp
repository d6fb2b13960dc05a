#pragma once

#include <deque>
#include <random>
#include <vector>

#include "runtime/flow_meter.hpp"
#include "runtime/link_estimate.hpp"
#include "runtime/link_meter.hpp"

namespace longspan::runtime::test {

/// A drop-tail link in virtual time and ranks that send over it at their pace, measured as ranks and stewards do: far
/// ends with clocks of their own that wake up late, answers that come back through a queue of their own. Senders have
/// no congestion control, so that what happens is the estimate's doing.
class Path {
 public:
  static constexpr double kRate = 100e6;  // bytes/s, as stated

  Path(double real_rate, double round_trip, double buffer_bytes, unsigned seed = 1);

  void run(Duration time);
  /// Share of the link's real rate that was used since the last call.
  double used();
  double share() const { return estimate_.share(); }
  /// The longest time without a pause for which the share was more than 5 % above what the link carries, since the last
  /// call.
  Duration too_high();
  /// The least share, of what the link really carries, since the last call.
  double lowest();

  double rate, rtt, buffer;
  double random_loss = 0;
  double competitor = 0;         // bytes/s that it sends, whatever happens
  bool cubic = false;            // a competitor that fills the buffer and gives way when it overflows
  double sender_limit = 1e30;    // bytes/s of each rank
  double reverse_queue = 0;      // s that answers wait
  double lateness = 0.0005;      // s, mean, of the far ends' processes
  double dropped = 0;
  double largest_queue = 0;

 private:
  static constexpr std::size_t kRanks = 2;
  struct Packet {  // a question, in the link's queue
    std::size_t rank = 0;
    FarCount count;
    double ahead = 0;  // bytes
  };
  struct Answer {
    std::size_t rank = 0;
    FarCount count;
    TimePoint at{};
  };
  struct Rank {
    FlowMeter meter;
    double accepted = 0;
    double sent = 0;
    double lost = 0;
    double pace = 0;
  };
  void step();
  void competes(double dt);
  void send(double dt);
  void questions(double served);
  spi::ChannelStats stats(const Rank& rank) const;

  LinkEstimate estimate_;
  LinkMeter meter_;
  std::vector<Rank> ranks_{kRanks};
  std::deque<Packet> asked_;
  std::deque<Answer> answers_;
  TimePoint now_{std::chrono::hours(1)};
  TimePoint ask_at_{};
  TimePoint since_{std::chrono::hours(1)};
  TimePoint high_since_ = TimePoint::max();
  Duration high_{0};
  double lowest_ = 1e9;
  double queue_ = 0;
  double window_ = 0;            // of the CUBIC flow
  TimePoint gave_way_{};
  double used_ = 0;
  double dropped_before_ = 0;
  std::mt19937 random_;
};

}  // namespace longspan::runtime::test
