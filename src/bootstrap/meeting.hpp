#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bootstrap/socket.hpp"
#include "longspan/bootstrap.hpp"

namespace longspan::bootstrap {

/// How the other ranks learn where rank 0 listens. One per way to start: a known port, a store, a unique id, a file.
class MeetingPlace {
 public:
  virtual ~MeetingPlace() = default;
  /// Rank 0: listens, and makes that known. May be called once.
  virtual Result<Fd> open(TimePoint deadline) = 0;
  /// Other ranks: where rank 0 may be listening now, likeliest first. Called again and again until rank 0 was reached;
  /// a failure is the reason to give when it never is.
  virtual Result<std::vector<Address>> find(TimePoint until) = 0;
  /// Rank 0: no rank will look for it again.
  virtual void close() {}
  /// For messages: "MASTER_ADDR=10.0.0.1 MASTER_PORT=29500".
  virtual std::string describe() const = 0;
};

/// The place that `launch` asks for.
Result<std::unique_ptr<MeetingPlace>> meeting_place_of(const LaunchInfo& launch);

}  // namespace longspan::bootstrap
