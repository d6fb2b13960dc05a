#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>

#include "device/cuda/mailbox.hpp"

namespace longspan::device::cuda {

/// Where calls stand in the order of users' streams. A call is entered as two things in the stream: a host function
/// that tells us that all before it is done, and a wait for a word of page-locked memory that we write when the result
/// is there. Neither takes a thread or a multiprocessor while it waits. An event could not stand for the second: it
/// would have to be recorded by work that is in a stream already, and whether that work can run is what the network
/// decides.
class StreamGate {
 public:
  /// The wait that a call has in a stream.
  struct Ticket {
    std::uint32_t* word = nullptr;  // nullptr: in no stream
    std::uint32_t value = 0;
  };

  static Result<std::unique_ptr<StreamGate>> open(std::shared_ptr<DriverMailbox> mailbox);
  StreamGate(const StreamGate&) = delete;
  StreamGate& operator=(const StreamGate&) = delete;
  ~StreamGate();

  /// Held from the choice of a ticket until it is in the stream, so that both have one order. Never with the Domain's
  /// lock waited for by whoever drives: putting work into a full stream blocks until the device has taken some of it.
  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }
  /// kUnsupported for a stream that captures a graph.
  Status accepts(void* stream) const;
  /// With the lock held: the next of `stream`.
  Result<Ticket> next(void* stream);
  /// With the lock held: puts into the stream that the mailbox gets `token` when it has come to it ...
  Status tell(void* stream, const Token& token);
  /// ... and that it waits there until `open_for`.
  Status wait(void* stream, const Ticket& ticket);
  /// The stream may go on. From any thread.
  static void open_for(const Ticket& ticket) noexcept;

 private:
  StreamGate(const Driver& driver, std::shared_ptr<DriverMailbox> mailbox)
      : driver_(driver), mailbox_(std::move(mailbox)) {}
  Result<std::uint32_t*> new_word(Context context);

  const Driver& driver_;
  std::shared_ptr<DriverMailbox> mailbox_;  // shared with the copiers and the driver's threads
  std::mutex mutex_;
  // Of each stream. The two handles of default streams mean another one in each context, and one of them in each
  // thread.
  std::map<std::tuple<void*, Context, std::thread::id>, Ticket> last_;
  std::uint32_t* page_ = nullptr;  // words not given out yet
  std::size_t left_ = 0;
};

}  // namespace longspan::device::cuda
