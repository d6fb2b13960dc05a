#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

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

  Status send(WorkState& work);
  Status recv(WorkState& work);
  void arrived(int source, const spi::Completion& completion);
  void completed(WorkState& work, spi::Completion& completion);
  void drop_all() {
    waiting_.clear();
    arrived_.clear();
  }

 private:
  using Source = std::pair<int, std::uint32_t>;  // rank, tag
  struct Arrival {
    int source;
    std::uint32_t tag;
    std::uint32_t number;
  };
  Status post(WorkState& work, int source);
  bool any_source_waits(std::uint32_t tag) const;
  void match();

  CommunicatorImpl& comm_;
  std::map<Source, std::uint32_t> sent_;     // messages sent to (rank, tag)
  std::map<Source, std::uint32_t> claimed_;  // messages of (rank, tag) that a receive has claimed
  std::vector<WorkState*> waiting_;          // receives that have not claimed a message, in order
  std::vector<Arrival> arrived_;             // messages that came before their receive, unclaimed
};

}  // namespace longspan::runtime
