#pragma once

#include <string>
#include <unordered_map>

#include "ucx/outbox.hpp"

namespace longspan::ucx {

/// The messages from one peer: matches what comes with receives, keeps early data, fetches what was offered.
class Inbox {
 public:
  Inbox(spi::PeerId peer, Shared& shared, Worker& worker, Outbox& answers)
      : peer_(peer), shared_(shared), worker_(worker), answers_(answers) {}

  void set_peer_name(std::string name) { peer_name_ = std::move(name); }
  const std::string& peer_name() const noexcept { return peer_name_; }

  void post(const spi::RecvRequest& request);
  // Called by UCX. False: no peer in its right mind says that. `data` holds the message and its trailer.
  [[nodiscard]] bool on_eager(const wire::MessageHeader& header, const std::byte* data, std::size_t length);
  [[nodiscard]] bool on_bequest(const wire::MessageHeader& header, const std::byte* data, std::size_t length);
  /// Takes `descriptor`, or refuses it by returning false.
  [[nodiscard]] bool on_offer(const wire::MessageHeader& header, void* descriptor, std::size_t length, bool& taken);

  /// Begins what UCX's callbacks could not; true when there was anything.
  bool flush();
  bool idle() const noexcept { return to_fetch_.empty(); }
  /// Nothing is being fetched.
  bool quiet() const noexcept { return to_fetch_.empty() && fetching_ == 0; }
  /// Fetches that UCX still holds.
  std::size_t held() const noexcept { return held_; }

  /// The peer leaves: what it offered and nobody has asked for is fetched now, as far as the credit goes; the rest is
  /// given up.
  void peer_leaves();
  void forget(std::uint64_t comm);
  /// Completes the posted receives with `status`, and from now on those that are posted for what did not come.
  void fail_all(const Status& status);

  std::uint64_t taken_over() const noexcept { return taken_over_; }
  std::uint64_t messages_received() const noexcept { return messages_; }
  std::uint64_t bytes_received() const noexcept { return bytes_; }
  std::uint64_t eager_bytes() const noexcept { return eager_bytes_; }
  const std::string& trouble() const noexcept { return trouble_; }

 private:
  struct Fetch;
  struct Message {
    spi::MessageId id;
    bool posted = false;
    bool arrived = false;
    bool any_length = false;
    bool to_pool = false;      // being fetched although nobody asked yet: its sender leaves
    bool to_fetch = false;     // on that list
    std::span<std::byte> data;
    std::uint64_t wanted_digest = 0;
    void* context = nullptr;
    std::uint64_t digest = 0;
    std::size_t length = 0;
    BufferPool::Buffer pooled;
    void* descriptor = nullptr;  // of an offer that is not being fetched
    Fetch* fetch = nullptr;
  };
  /// UCX holds it until its callback.
  struct Fetch {
    Inbox* owner = nullptr;
    Message* message = nullptr;  // nullptr: nobody wants it any more
    Payload payload;
  };

  Message& make(const spi::MessageId& id);
  void release(Message& message);
  void drop_offer(Message& message);
  bool matches(Message& message);
  void deliver(Message& message);
  void arrive(Message& message);
  void keep(Message& message, const std::byte* data);
  void begin_fetch(Message& message);
  void fetched(Fetch& fetch, ucs_status_t status);
  void withdrawn(Message& message);
  void complete(Message& message, Status status, std::size_t bytes);
  void consumed(std::uint64_t comm, std::size_t bytes);
  static bool whole(const std::byte* data, std::size_t bytes, std::size_t length) noexcept;
  static void on_fetched(void* request, ucs_status_t status, std::size_t length, void* fetch);

  spi::PeerId peer_;
  Shared& shared_;
  Worker& worker_;
  Outbox& answers_;
  std::string peer_name_;
  ObjectPool<Message> pool_;
  ObjectPool<Fetch> fetches_;
  IdMap<Message> messages_by_id_;
  Queue<Message*> to_fetch_;
  std::unordered_map<std::uint64_t, std::size_t> owed_;  // eager bytes consumed and not yet reported, by communicator
  std::size_t fetching_ = 0;
  std::size_t held_ = 0;
  Status failure_;
  std::string trouble_;
  std::uint64_t taken_over_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t eager_bytes_ = 0;
};

}  // namespace longspan::ucx
