#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "hierarchical/intervals.hpp"
#include "longspan/spi/schedule_builder.hpp"

namespace longspan::hierarchical {

inline Slice cut(const Slice& of, const Interval& span) {
  return spi::ScheduleBuilder::part(of, of.block, span.begin, span.end);
}

/// Where parts of something lie in this rank's memory.
struct Held {
  Interval span;
  Slice slice;
};
using Holding = std::vector<Held>;

/// The part `span`, which one piece of `holding` contains.
inline Slice find(const Holding& holding, const Interval& span) {
  for (const Held& held : holding) {
    if (held.span.contains(span)) return cut(held.slice, span);
  }
  return holding.empty() ? Slice{} : cut(holding.front().slice, span);
}

/// Sorts by `key`, keeping the order of equals. (Not std::stable_sort: its buffer in libstdc++ 12 is a deprecated
/// function, of which clang warns.)
template <class T, class Key>
void order_by(std::vector<T>& items, Key&& key) {
  std::vector<std::pair<int, std::size_t>> order;
  order.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) order.emplace_back(key(items[i]), i);
  std::sort(order.begin(), order.end());
  std::vector<T> sorted;
  sorted.reserve(items.size());
  for (const auto& [value, i] : order) sorted.push_back(std::move(items[i]));
  items = std::move(sorted);
}

/// How far `to` comes after `from` when ranks are counted round: senders begin with the nearest, so that not all begin
/// with the same receiver.
inline int distance(int from, int to, int ranks) noexcept { return (to - from + ranks) % ranks; }

/// A ScheduleBuilder that numbers streams: the k-th message of a phase from one rank to another gets the same stream on
/// both ends, because both list a pair's messages in the same order (by block, then by position).
class Wire {
 public:
  explicit Wire(spi::ScheduleBuilder& builder) : builder_(builder) {}

  void phase(const std::string& name) {
    builder_.phase(name);
    ++phase_;
    next_.clear();
  }
  void send(int peer, const Slice& source) { builder_.send(peer, stream(next_[peer].first), source); }
  void recv(int peer, const Slice& destination) { builder_.recv(peer, stream(next_[peer].second), destination); }
  /// Receives into scratch as long as `extent` (of in or out).
  Slice recv_scratch(int peer, const Slice& extent) {
    const Slice area = builder_.scratch(extent);
    recv(peer, area);
    return area;
  }
  /// The same, for exchanges in which both sides overwrite what they sent: see ScheduleBuilder::recv_copied.
  Slice recv_copied(int peer, const Slice& extent) {
    const Slice area = builder_.scratch(extent);
    builder_.recv_copied(peer, stream(next_[peer].second), area);
    return area;
  }
  void send_signal(int peer, std::span<const std::uint32_t> after) {
    builder_.send_signal(peer, stream(next_[peer].first), after);
  }
  std::uint32_t recv_signal(int peer) { return builder_.recv_signal(peer, stream(next_[peer].second)); }
  spi::ScheduleBuilder& builder() noexcept { return builder_; }
  int rank() const noexcept { return builder_.rank(); }

 private:
  std::uint32_t stream(std::uint32_t& counter) const { return (phase_ << 20) | counter++; }

  spi::ScheduleBuilder& builder_;
  std::uint32_t phase_ = 0;
  std::unordered_map<int, std::pair<std::uint32_t, std::uint32_t>> next_;  // peer -> messages sent, received
};

}  // namespace longspan::hierarchical
