#include "lab/wan_link.hpp"

#include <algorithm>
#include <cmath>

namespace longspan::lab {
namespace {

constexpr std::uint64_t kDefaultBuffer = 8'000'000;
constexpr std::size_t kWorthKeeping = std::size_t{12} << 10;
constexpr Duration kSlot = std::chrono::milliseconds(10);
/// The packets of a train that are sent within this share of the link's delay, and within this time, arrive together
/// when the last of them is due: each system call saved is time for the ranks. The first of them is late by less.
constexpr int kTogetherShare = 40;
constexpr Duration kTogether = std::chrono::microseconds(500);

Duration time_to_send(double bytes, Bandwidth rate) {
  return Duration(static_cast<Duration::rep>(std::llround(bytes / rate.bytes_per_second * 1e9)));
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// Room for a full queue, everything in flight and 10 ms of lateness, and as much again and a half for the records of
/// small packets.
std::size_t ring_capacity(const LinkSettings& ceiling) {
  const double in_flight = ceiling.rate.bytes_per_second * (seconds(ceiling.delay) + 0.010);
  return static_cast<std::size_t>(2.5 * (in_flight + static_cast<double>(ceiling.buffer_bytes))) +
         (std::size_t{1} << 20);
}

}  // namespace

LinkSettings settings_of(const WanLink& link, Duration reverse_delay) {
  LinkSettings settings;
  settings.rate = link.bandwidth;
  settings.delay = std::chrono::duration_cast<Duration>(link.latency);
  settings.loss = link.loss;
  const double round_trip = seconds(settings.delay + reverse_delay);
  const auto deep = static_cast<std::uint64_t>(2 * link.bandwidth.bytes_per_second * round_trip);
  settings.buffer_bytes = link.buffer_bytes.value_or(std::max(kDefaultBuffer, deep));
  return settings;
}

EmulatedLink::EmulatedLink(const LinkSettings& settings, const LinkSettings& ceiling, std::uint64_t seed)
    : settings_(settings), ring_(ring_capacity(ceiling)), random_(seed) {
  draw_next_loss();
}

std::uint64_t EmulatedLink::queued_bytes(TimePoint now) const {
  if (busy_until_ <= now) return 0;
  return static_cast<std::uint64_t>(std::llround(seconds(busy_until_ - now) * settings_.rate.bytes_per_second));
}

/// How many packets arrive before the next one is lost: a geometric distribution, as if each had its own chance.
void EmulatedLink::draw_next_loss() {
  if (settings_.loss <= 0) {
    until_loss_ = kNever;
  } else {
    const double chance = std::min(settings_.loss, 1 - 1e-12);
    until_loss_ = std::geometric_distribution<std::uint64_t>(chance)(random_);
  }
}

void EmulatedLink::count_busy(TimePoint start, TimePoint end) {
  counters_.busy_time += end - start;
  const std::int64_t first = start.time_since_epoch() / kSlot;
  const std::int64_t last = end.time_since_epoch() / kSlot;
  const std::int64_t from = std::max(first, counted_slot_ + 1);
  if (last >= from) {
    counters_.active_time += kSlot * (last - from + 1);
    counted_slot_ = last;
  }
}

std::uint32_t EmulatedLink::packets_together(const PacketTrain& train) const {
  const Duration time = std::min(kTogether, settings_.delay / kTogetherShare);
  const double bytes = settings_.rate.bytes_per_second * seconds(time);
  const double packets = bytes / static_cast<double>(train.wire_bytes(0, 1));
  const auto largest = static_cast<std::uint32_t>(std::clamp(packets, 1.0, static_cast<double>(train.packets())));
  const std::uint32_t pieces = (train.packets() + largest - 1) / largest;
  return (train.packets() + pieces - 1) / pieces;
}

void EmulatedLink::offer(const PacketTrain& train, TimePoint now, Duration read_lateness,
                         TrainMemory::Block* block) {
  // Copying a little is cheaper than a block that a little keeps from others.
  if (train.frame_bytes(0, train.packets()) < kWorthKeeping) block = nullptr;
  counters_.offered_packets += train.packets();
  counters_.offered_bytes += train.wire_bytes(0, train.packets());
  if (down_) {
    counters_.down_packets += train.packets();
    return;
  }
  const std::uint32_t together = packets_together(train);
  const PacketRecord* before = nullptr;
  for (std::uint32_t first = 0; first < train.packets();) {
    std::uint32_t count = std::min(together, train.packets() - first);
    // What is lost goes by itself, and those around it are no train any more.
    count = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(until_loss_, 1, count));
    if (queued_bytes(now) + train.wire_bytes(first, count) > settings_.buffer_bytes) count = 1;
    PacketRecord* const record = offer_part(train, first, count, now, block);
    if (record != nullptr) {
      record->read_lateness = read_lateness;
      record->continues = before != nullptr;
    }
    before = record;
    first += count;
  }
}

PacketRecord* EmulatedLink::keep(const PacketTrain& train, std::uint32_t first, std::uint32_t count,
                                 TrainMemory::Block* block) {
  PacketRecord* const record = ring_.push(block != nullptr ? train.head_bytes() : train.frame_bytes(first, count));
  if (record == nullptr) return nullptr;
  if (block == nullptr) {
    train.write(first, count, record->bytes());
    return record;
  }
  train.write_head(first, count, record->bytes());
  record->elsewhere = train.payload(first, count);
  record->block = block;
  TrainMemory::hold(*block);
  return record;
}

PacketRecord* EmulatedLink::offer_part(const PacketTrain& train, std::uint32_t first, std::uint32_t count,
                                       TimePoint now, TrainMemory::Block* block) {
  const std::uint64_t bytes = train.wire_bytes(first, count);
  const std::uint64_t queue = queued_bytes(now) + bytes;
  if (queue > settings_.buffer_bytes) {
    counters_.dropped_packets += count;
    counters_.dropped_bytes += bytes;
    return nullptr;
  }
  const TimePoint starts = std::max(now, busy_until_);
  const TimePoint departs = starts + time_to_send(static_cast<double>(bytes), settings_.rate);
  // Loss is on the line, not in front of it: a lost packet has used its share of the link.
  PacketRecord* record = nullptr;
  if (until_loss_ == 0) {
    counters_.lost_packets += count;
    draw_next_loss();
  } else {
    if (until_loss_ != kNever) until_loss_ -= count;
    record = keep(train, first, count, block);
    if (record == nullptr) {
      counters_.overrun_packets += count;
      return nullptr;
    }
    record->layout = train.layout();
    record->packets = count;
    record->wire_bytes = static_cast<std::uint32_t>(bytes);
    record->serialisation = departs - starts;
    record->departs = departs;
    // A shorter delay set meanwhile must not let packets overtake.
    record->due = std::max(departs + settings_.delay, last_due_);
    last_due_ = record->due;
  }
  counters_.largest_queue_bytes = std::max(counters_.largest_queue_bytes, queue);
  counters_.sent_bytes += bytes;
  count_busy(starts, departs);
  busy_until_ = departs;
  return record;
}

TimePoint EmulatedLink::next_due() { return ring_.empty() ? TimePoint::max() : ring_.front().due; }

void EmulatedLink::pop_delivered() {
  counters_.delivered_packets += ring_.front().packets;
  counters_.delivered_bytes += ring_.front().wire_bytes;
  ring_.pop();
}

void EmulatedLink::change(const LinkSettings& settings, TimePoint now) {
  const double stretch = settings_.rate.bytes_per_second / settings.rate.bytes_per_second;
  const auto rescale = [now, stretch](TimePoint instant) {
    return now + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(instant - now) * stretch);
  };
  if (busy_until_ > now && stretch != 1.0) {
    TimePoint last{};
    ring_.for_each([&](PacketRecord& record) {
      if (record.departs > now) {
        const TimePoint departs = rescale(record.departs);
        record.due = std::max(record.due + (departs - record.departs), last);
        record.departs = departs;
        record.serialisation = std::chrono::duration_cast<Duration>(record.serialisation * stretch);
      }
      last = record.due;
      return true;
    });
    last_due_ = last;
    busy_until_ = rescale(busy_until_);
  }
  const bool redraw = settings_.loss != settings.loss;
  settings_ = settings;
  if (redraw) draw_next_loss();
}

void EmulatedLink::set_down(bool down, TimePoint now) {
  if (down && !down_) {
    last_due_ = TimePoint{};
    ring_.for_each([&](const PacketRecord& record) {
      if (record.departs > now) {
        counters_.sent_bytes -= record.wire_bytes;
        counters_.down_packets += record.packets;
      } else {
        last_due_ = record.due;
      }
      return true;
    });
    ring_.truncate_after(now);
    if (busy_until_ > now) counters_.busy_time -= busy_until_ - now;
    busy_until_ = std::min(busy_until_, now);
  }
  down_ = down;
}

}  // namespace longspan::lab
