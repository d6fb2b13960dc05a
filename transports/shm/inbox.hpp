#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "shm/links.hpp"

namespace longspan::shm {

/// The messages from one peer: matches records with receives, keeps early data, fetches what was offered.
class Inbox {
 public:
  Inbox(spi::PeerId peer, Shared& shared) : peer_(peer), shared_(shared) {}

  void attach(InLink* link, std::uint64_t credit_bytes) noexcept {
    link_ = link;
    credit_bytes_ = credit_bytes;
  }
  void set_peer_name(std::string name) { peer_name_ = std::move(name); }

  void post(const spi::RecvRequest& request);
  void release_view(std::uint64_t token);
  // False: no peer in its right mind says that.
  bool asks_for_unknown_region(const Record& offer) const;
  [[nodiscard]] bool on_eager(const Record& record);
  [[nodiscard]] bool on_offer(const Record& record);
  [[nodiscard]] bool on_segment(const Record& record);

  /// Fetches at most about `budget` bytes, which it lessens; true when it did anything.
  bool fetch(std::size_t& budget);
  bool can_fetch() const noexcept { return !pulls_.empty(); }
  /// Nothing is being fetched.
  bool quiet() const noexcept { return pulls_.empty() && staged_.empty(); }
  /// Answers wait for room.
  bool unanswered() const noexcept { return !replies_.empty(); }
  /// Writes answers as far as there is room; true when it wrote any.
  bool flush();
  /// Before sleeping: false when `flush` has something to do after all.
  bool arm() { return replies_.empty() || !link_->backward.wait_for_room(0); }

  /// The peer leaves: what it offered and nobody has asked for is fetched now, as far as the credit goes; the rest is
  /// given up, so that the peer need not wait.
  void peer_leaves();
  /// What the peer left behind of a message; it has been offered, and may be asked for or not.
  void inherit(const BequestEntry& entry, const std::byte* data);
  /// The peer is gone: takes what is wanted and still there to be read.
  void finish_mapped();
  /// Stops reading the peer's memory.
  void stop_fetching();
  void forget(std::uint64_t comm);
  /// Completes the posted receives with `status`, and from now on those that are posted for what did not come.
  void fail_all(const Status& status);

  std::uint64_t messages_received() const noexcept { return messages_; }
  std::uint64_t bytes_received() const noexcept { return bytes_; }
  std::uint64_t eager_bytes() const noexcept { return eager_bytes_; }

 private:
  struct Message {
    spi::MessageId id;
    bool posted = false;
    bool arrived = false;
    bool offered = false;  // else its bytes are in `pooled`
    bool view_ok = false;
    bool any_length = false;
    bool past_cache = false;
    bool in_region = false;  // `address` counts from the start of one, which may not be mapped here
    bool to_pool = false;  // being fetched although nobody asked yet: its sender leaves
    std::span<std::byte> data;
    std::uint64_t wanted_digest = 0;
    void* context = nullptr;
    std::uint64_t digest = 0;
    std::size_t length = 0;
    BufferPool::Buffer pooled;
    std::uint32_t offer = 0;
    std::uint32_t slot = kNoSlot;
    std::uint64_t address = 0;
    const std::byte* mapped = nullptr;  // where it can be read without a copy, if anywhere
    // In which `mapped` lies; none: in the peer's heap, where it stays when the peer has gone.
    MappedRegion region;
    std::size_t fetched = 0;
  };
  struct Reply {
    RecordKind kind;
    std::uint32_t offer = 0;
    std::uint64_t comm = 0;
    std::uint64_t value = 0;
  };
  struct View {
    std::uint64_t token;
    std::uint64_t comm;
    std::uint32_t offer;
    std::uint32_t slot;
    MappedRegion region;
  };
  struct Staged {
    std::uint64_t token;
    Message* message;  // nullptr: dropped, its segments still come
    std::size_t left;
  };

  Message& make(const spi::MessageId& id);
  void release(Message& message);
  void arrive(Message& message);
  bool matches(Message& message);
  void deliver(Message& message);
  void deliver_view(Message& message);
  void start_fetch(Message& message);
  void stage(Message& message);
  void fetched(Message& message);
  void withdrawn(Message& message);
  static bool in_heap(const Message& message) noexcept {
    return message.mapped != nullptr && message.region == nullptr;
  }
  bool map(Message& message, const OfferBody& body);
  std::byte* target(const Message& message) const noexcept {
    return message.to_pool ? message.pooled.get() : message.data.data();
  }
  void complete(Message& message, Status status, std::size_t bytes);
  void drop_offer(const Message& message);
  void consumed(std::uint64_t comm, std::size_t bytes);
  bool begin_read(std::uint32_t slot);
  void end_read(std::uint32_t slot);

  spi::PeerId peer_;
  Shared& shared_;
  std::string peer_name_;
  InLink* link_ = nullptr;
  std::uint64_t credit_bytes_ = 0;
  ObjectPool<Message> pool_;
  IdMap<Message> messages_by_id_;
  Queue<Message*> pulls_;
  std::vector<Staged> staged_;
  std::vector<View> views_;
  std::vector<MappedRegion> kept_regions_;  // of views that nobody will release, since the channel ended
  std::uint64_t next_token_ = 1;
  Queue<Reply> replies_;
  std::unordered_map<std::uint64_t, std::size_t> owed_;  // eager bytes consumed and not yet reported, by communicator
  std::uint64_t last_comm_ = 0;
  std::size_t* last_owed_ = nullptr;
  Status failure_;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t eager_bytes_ = 0;
};

}  // namespace longspan::shm
