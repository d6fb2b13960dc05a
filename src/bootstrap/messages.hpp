#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bootstrap/wire.hpp"
#include "longspan/collective.hpp"
#include "longspan/status.hpp"
#include "longspan/types.hpp"

namespace longspan::bootstrap {

/// A verdict that concerns every communicator that has its root among its ranks.
inline constexpr std::uint64_t kEveryCommunicator = ~std::uint64_t{0};
/// A fault that belongs to no numbered collective (send/recv, abort).
inline constexpr std::uint64_t kNoSeq = ~std::uint64_t{0};
inline constexpr std::uint32_t kMaxControlBody = 64 * 1024;
inline constexpr std::size_t kMaxFaultText = 4096;
inline constexpr std::size_t kMaxNote = 60 * 1024;

// All ranks below are ranks of the job (of the rendezvous), whatever communicator is meant.

/// What one rank found wrong, or abort().
struct Fault {
  std::uint64_t comm = 0;
  std::uint64_t seq = kNoSeq;  ///< number of the collective
  int step = -1;
  StatusCode code = StatusCode::kInternal;
  int blamed = -1;  ///< the rank that seems to be the cause; -1: none
  std::string text;
  int reporter = -1;  ///< filled in by the hub
};

/// What a rank asked for in one collective: everything that must be the same on all ranks.
struct CallDescriptor {
  Collective kind = Collective::kAllReduce;
  std::uint64_t count = 0;  ///< 0 where ranks may differ
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;  ///< kSum where nothing is reduced
  int root = 0;
  std::string algorithm;     ///< of the plan
  std::uint64_t digest = 0;  ///< of the call and the plan
  friend bool operator==(const CallDescriptor&, const CallDescriptor&) = default;
};

/// What a rank says about collective `seq` of communicator `comm` when it is asked.
struct WaitReport {
  std::uint64_t comm = 0;
  std::uint64_t seq = kNoSeq;         ///< as asked
  bool member = false;                ///< of that communicator; the rest means nothing otherwise
  std::uint64_t next_seq = 0;         ///< number of the collective that it would call next: all below were entered
  bool busy = false;                  ///< something runs
  std::optional<CallDescriptor> call; ///< of `seq`, if it was entered and is still known
  std::vector<int> waiting_on;        ///< ranks whose data it waits for
  int step = -1;                      ///< where it waits
};

/// The root cause that all ranks report.
struct Verdict {
  std::uint64_t comm = kEveryCommunicator;
  std::uint64_t seq = kNoSeq;
  int root = -1;  ///< the rank to blame; -1: none alone
  StatusCode code = StatusCode::kInternal;
  std::string text;
  Status status() const { return Status(code, text); }
};

enum class ControlType : std::uint16_t {
  kUnknown = 0,  ///< of a later version: ignored
  kHello = 32,   ///< to the standby: job, rank
  kHeartbeat,
  kGoodbye,  ///< the sender leaves in good order
  kFault,    ///< to the hub
  kQuery,    ///< from the hub: inquiry, report.comm, report.seq
  kReport,   ///< to the hub: inquiry, report
  kVerdict,
  kWitness,  ///< to the hub: the sender's connection to `rank` ended, too
  kNote,     ///< what the layer above has to say, to rank 0 or from it
};

/// One message of the control plane; only the fields of its type are sent. A reader ignores what follows the fields
/// that it knows, so later versions may append some.
struct ControlMessage {
  ControlType type = ControlType::kUnknown;
  std::uint64_t job = 0;
  int rank = -1;
  std::uint32_t inquiry = 0;
  Fault fault;
  WaitReport report;
  Verdict verdict;
  std::string note;
};

std::string encode(const ControlMessage& message);
/// kInvalidArgument: not a message of the control plane.
Result<ControlMessage> decode_control(const Frame& frame);

}  // namespace longspan::bootstrap
