#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <string>

#include "base/clock.hpp"
#include "lab/packet_ring.hpp"
#include "lab/packet_train.hpp"
#include "longspan/topology.hpp"

namespace longspan::lab {

/// How one directed link behaves.
struct LinkSettings {
  Bandwidth rate;                ///< bytes of IP packets per second; > 0
  Duration delay{0};             ///< one way, after the last byte has left the queue
  std::uint64_t buffer_bytes{};  ///< drop-tail queue in front of the link
  double loss = 0;               ///< probability that a packet is lost after it has left the queue
};

/// The settings a topology states; a buffer that it does not state is deep: 2 x rate x RTT, at least 8 MB.
LinkSettings settings_of(const WanLink& link, Duration reverse_delay);

/// What a link has done so far.
struct LinkCounters {
  std::uint64_t offered_packets = 0;
  std::uint64_t offered_bytes = 0;
  std::uint64_t delivered_packets = 0;
  std::uint64_t delivered_bytes = 0;
  std::uint64_t sent_bytes = 0;       ///< serialised: delivered, lost or still on its way
  std::uint64_t dropped_packets = 0;  ///< the buffer was full
  std::uint64_t dropped_bytes = 0;
  std::uint64_t lost_packets = 0;     ///< random loss
  std::uint64_t down_packets = 0;     ///< lost because a fault had taken the link down
  std::uint64_t overrun_packets = 0;  ///< the emulator's own memory was full: the run is invalid
  std::uint64_t largest_queue_bytes = 0;
  Duration busy_time{0};    ///< time spent serialising
  Duration active_time{0};  ///< 10-ms slots in which the link serialised anything
};

/// One directed link: a drop-tail queue, a serialiser, random loss and a delay. Pure: no I/O, no clock of its own.
///
/// The queue is a fluid: what is in it at time t is (busy_until - t) x rate, which is exact and needs no event per
/// departure. Used by one thread.
class EmulatedLink {
 public:
  /// `ceiling` gives the largest rate, delay and buffer the link will ever be set to; memory is taken for that.
  EmulatedLink(const LinkSettings& settings, const LinkSettings& ceiling, std::uint64_t seed);

  /// A packet, or a train of them, arrives at the queue. Every packet of a train is queued, sent, dropped or lost for
  /// itself; those that follow each other closely reach the far end together, when the last of them is due.
  /// Large ones stay in the `block` that they were read into; without one, they are copied.
  void offer(const PacketTrain& train, TimePoint now, Duration read_lateness = Duration{0},
             TrainMemory::Block* block = nullptr);
  /// When the next packets reach the far end; TimePoint::max() when there are none.
  TimePoint next_due();
  /// The packets that next_due() is about. Requires that there are any.
  PacketRecord& front() { return ring_.front(); }
  /// Forgets those packets; they have been handed over.
  void pop_delivered();

  /// From now on; what waits in the queue leaves at the new rate, what has left it keeps its time.
  void change(const LinkSettings& settings, TimePoint now);
  /// Down: what waits in the queue and what arrives is gone; what has left the queue still arrives.
  void set_down(bool down, TimePoint now);

  const LinkSettings& settings() const noexcept { return settings_; }
  const LinkCounters& counters() const noexcept { return counters_; }
  std::uint64_t queued_bytes(TimePoint now) const;

 private:
  static constexpr std::uint64_t kNever = UINT64_MAX;

  std::uint32_t packets_together(const PacketTrain& train) const;
  /// The record it went into; nullptr when it was dropped or lost.
  PacketRecord* offer_part(const PacketTrain& train, std::uint32_t first, std::uint32_t count, TimePoint now,
                           TrainMemory::Block* block);
  PacketRecord* keep(const PacketTrain& train, std::uint32_t first, std::uint32_t count, TrainMemory::Block* block);
  void draw_next_loss();
  void count_busy(TimePoint start, TimePoint end);

  LinkSettings settings_;
  PacketRing ring_;
  std::mt19937_64 random_;
  std::uint64_t until_loss_ = kNever;  ///< packets that arrive before the next one is lost
  LinkCounters counters_;
  TimePoint busy_until_{};
  TimePoint last_due_{};
  std::int64_t counted_slot_ = -1;
  bool down_ = false;
};

}  // namespace longspan::lab
