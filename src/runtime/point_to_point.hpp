#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "device/copier.hpp"
#include "longspan/spi/transport.hpp"
#include "longspan/status.hpp"

namespace longspan::runtime {

class CommunicatorImpl;
struct WorkState;

/// Matches sends and receives of one communicator. Messages of one (source, tag) are numbered at both ends; a receive
/// claims the next number of its source, or, from any source, the first message that came and nobody claimed. Receives
/// are served in the order in which they were posted. Guarded by the Domain's lock.
class PointToPoint {
 public:
  explicit PointToPoint(CommunicatorImpl& comm) : comm_(comm) {}

  /// Takes its place among the messages; one in a stream begins later.
  Status send(WorkState& work);
  Status recv(WorkState& work);
  /// Its stream has come to it.
  Status begin(WorkState& work);
  void arrived(int source, const spi::Completion& completion);
  void completed(WorkState& work, spi::Completion& completion);
  /// It ends, whatever it waits for.
  void drop(const WorkState& work) {
    std::erase(waiting_, &work);
    std::erase(claims_, &work);
  }
  void drop_all() {
    waiting_.clear();
    claims_.clear();
    arrived_.clear();
  }

 private:
  using Source = std::pair<int, std::uint32_t>;  // rank, tag
  struct Arrival {
    int source;
    std::uint32_t tag;
    std::uint32_t number;
    std::size_t bytes;
  };
  Status begin_send(WorkState& work);
  void claim(WorkState& work, int source);
  Status post(WorkState& work);
  Result<spi::Channel*> channel_to(const WorkState& work);
  spi::MessageId id_of(const WorkState& work) const;
  /// Its buffer is `copier`'s device's, and the transport reads or writes it there.
  bool takes_device(const WorkState& work, const device::Copier* copier) const;
  bool any_source_waits(std::uint32_t tag) const;
  void match();

  CommunicatorImpl& comm_;
  std::map<Source, std::uint32_t> sent_;     // messages sent to (rank, tag)
  std::map<Source, std::uint32_t> claimed_;  // messages of (rank, tag) that a receive has claimed
  std::vector<WorkState*> waiting_;          // receives that have not claimed a message, in order
  std::vector<WorkState*> claims_;           // receives that have, and of which nothing is posted
  std::vector<Arrival> arrived_;             // messages that came before their receive, unclaimed
};

}  // namespace longspan::runtime
