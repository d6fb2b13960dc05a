#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/spi/endpoint_traits.hpp"
#include "longspan/status.hpp"
#include "longspan/types.hpp"

namespace longspan::spi {

/// Who is at the other end: unique within a job (one per Domain), chosen by the bootstrap.
using PeerId = std::uint64_t;

/// The name of a message between two peers in one direction: communicator, number of the collective in it, stream (the
/// sending step) and chunk. Never reused while either end may still wait for it.
struct MessageId {
  std::uint64_t comm = 0;
  std::uint32_t seq = 0;
  std::uint32_t stream = 0;
  std::uint32_t chunk = 0;

  friend bool operator==(const MessageId&, const MessageId&) = default;
};
/// "message (comm 1, seq 2, stream 3, chunk 4)".
std::string describe(const MessageId& id);

/// What a transport can do; data, not virtual functions.
struct TransportCapabilities {
  bool host_local = false;     ///< joins only ranks that the topology places on the same [[host]]
  bool one_process = false;    ///< joins only endpoints of the same process (for tests)
  bool peer_mapped = false;    ///< receives may complete with a view of the peer's memory
  bool device_memory = false;  ///< `memory` of requests may be an accelerator's, whatever the other end's is
  bool needs_registration = false;
  bool wide_area = false;      ///< paces and may cross regions
  bool encrypts = false;       ///< proves the job's key, and encrypts as EndpointOptions says
  bool test_only = false;      ///< used only when named in LONGSPAN_TRANSPORTS
  std::size_t max_message = SIZE_MAX;
};

/// How an endpoint is opened.
struct EndpointOptions {
  PeerId self = 0;
  std::uint64_t job = 0;         ///< nonce of the job; connections of another job are refused
  std::string bind_address;      ///< IP literal to listen on and be reached at; empty: chosen by the transport
  std::string congestion_control;///< empty: the transport's choice per path
  /// Per communicator and peer: bytes sent ahead of their receive.
  std::size_t eager_credit_bytes = std::size_t{4} << 20;
  int default_lanes = 1;         ///< connections per channel unless ChannelOptions says otherwise
  /// IP literal that peers dial, where it is not the one to listen on (NAT); empty: the same.
  std::string advertise_address;
  std::uint16_t first_port = 0;  ///< listens on the first free port from here ...
  std::uint16_t last_port = 0;   ///< ... to here; 0: any port
  std::vector<std::string> nics; ///< IP literals of this host's network cards to use together; empty: as routes say
  std::string rdma;              ///< LONGSPAN_RDMA: which RDMA device, port and address, and how; empty: chosen
  std::string key;               ///< the job's secret, which every connection proves; empty: there is none
  Encryption encryption = Encryption::kWan;  ///< of what follows the proof, between hosts
  /// Asked for by name (LONGSPAN_TRANSPORTS): opened although nothing speaks for it on this host.
  bool named = true;
};

struct ChannelOptions {
  Tier tier = Tier::kHost;
  int lanes = 0;                          ///< connections to stripe over; 0: the endpoint's default
  double rate_bytes_per_second = 0;       ///< pacing, in bytes of IP packets; 0: unpaced
  std::size_t window_bytes = 0;           ///< bytes that must fit in flight (>= rate x RTT); 0: the system's default
  std::chrono::nanoseconds rtt{0};        ///< stated round-trip time; 0: unknown
  double loss = 0;                        ///< stated random loss
  std::string peer_name;                  ///< "rank 3 (host eu-1, region eu)", for messages
};

/// What a transport does about a path, and why.
struct PathChoice {
  std::string congestion_control;
  int lanes = 1;          ///< connections that data is striped over
  int repair_lanes = 0;   ///< more, for what is sent again before its loss is known
  int express_lanes = 0;  ///< more, for small messages
  std::vector<std::string> reasons;
};

/// Live figures of a channel, summed over its connections.
struct ChannelStats {
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t messages_sent = 0;
  std::uint64_t messages_received = 0;
  std::uint64_t retransmits = 0;      ///< packets
  std::uint64_t packets_sent = 0;     ///< with data, those sent again included; 0: not known
  std::uint64_t drops = 0;            ///< packets that the network lost, as far as both ends know
  /// Bytes of IP packets that the peer acknowledged; may fall when a connection is replaced.
  std::uint64_t delivered_bytes = 0;
  /// Bytes of IP packets that came from the peer, in order; may fall like delivered_bytes.
  std::uint64_t arrived_bytes = 0;
  std::uint64_t arrived_packets = 0;  ///< with data, in any order, those that came twice included
  std::uint64_t unsent_bytes = 0;     ///< > 0: data waits for the pace, or for the window
  double delivery_rate_bytes_per_second = 0;
  std::chrono::nanoseconds rtt{0};
  std::chrono::nanoseconds min_rtt{0};
  std::chrono::nanoseconds least_rtt{0};  ///< the latest of the connection that waits least: a queue that all share
  std::uint64_t reconnects = 0;   ///< lost connections that were replaced
  double observed_loss = 0;       ///< of packets, again and again while no queue stood; 0: none was seen
  std::uint32_t lanes = 0;        ///< connections that carry data to the peer now
  std::uint32_t repair_lanes = 0; ///< and those for repeats
  std::uint32_t kernel_encrypted = 0;  ///< of all connections, those whose sends the kernel encrypts (kTLS)
  bool warming = false;           ///< connections are still being made, or made ready for their rate
  std::uint64_t eager_bytes = 0;  ///< bytes that arrived before their receive was posted (each was copied once more)
};

/// A range of memory made known to an endpoint. Destroying it undoes that; it must outlive its operations.
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
};

struct SendRequest {
  MessageId id;
  std::uint64_t digest = 0;  ///< of the call and the plan; compared with the receiver's
  std::span<const std::byte> data;
  const MemoryRegion* region = nullptr;
  void* context = nullptr;   ///< returned in the completion; nullptr: no completion wanted
  MemoryKind memory = MemoryKind::kHost;  ///< of `data`
};

struct RecvRequest {
  MessageId id;
  std::uint64_t digest = 0;
  std::span<std::byte> data;
  const MemoryRegion* region = nullptr;
  bool view_ok = false;  ///< may complete with a view of the peer's memory instead of writing `data`
  bool any_length = false;  ///< a shorter message is fine; `Completion::bytes` tells
  void* context = nullptr;
  bool past_cache = false;  ///< part of far more bytes than caches hold, and not read soon: a copy may bypass them
  MemoryKind memory = MemoryKind::kHost;  ///< of `data`, and of the view that it may complete with
};

/// What came, and what its receive takes.
struct Match {
  std::uint64_t digest = 0;
  std::uint64_t bytes = 0;
  std::uint64_t wanted_digest = 0;
  std::size_t room = 0;
  bool any_length = false;

  bool ok() const noexcept { return digest == wanted_digest && (any_length ? bytes <= room : bytes == room); }
};
/// The kMismatch of a match that is not ok; `sender` as in ChannelOptions::peer_name.
Status mismatch(const MessageId& id, std::string_view sender, const Match& match);

enum class CompletionKind : std::uint8_t {
  kSend,     ///< the source may be reused (sent, retained or consumed by the peer)
  kRecv,     ///< the bytes are there: in `data`, or at `view`
  kArrival,  ///< a message came (its first bytes, or its announcement) whose receive is not posted; once per message
  kClosed,   ///< the peer said goodbye and everything it sent has been delivered
  kBroken,   ///< the connection is lost; `status` says how. Its posted operations complete with the same status
};

struct Completion {
  CompletionKind kind = CompletionKind::kSend;
  void* context = nullptr;
  PeerId peer = 0;
  MessageId id;                ///< kArrival
  std::uint64_t digest = 0;    ///< kArrival; kRecv with kMismatch: the sender's
  std::size_t bytes = 0;       ///< kRecv: length; kArrival: length of the whole message
  const std::byte* view = nullptr;  ///< kRecv: where the bytes are, when not in `data`; until release_view(view_token)
  std::uint64_t view_token = 0;
  Status status;

  /// What forget() takes back: the ends of channels are told all the same.
  bool is_of(std::uint64_t comm) const noexcept {
    return id.comm == comm && kind != CompletionKind::kBroken && kind != CompletionKind::kClosed;
  }
};

/// The way to one peer, both directions. All calls come from the thread that drives the endpoint; none blocks and none
/// completes inline: completions come from Endpoint::poll only.
class Channel {
 public:
  virtual ~Channel() = default;

  virtual PeerId peer() const noexcept = 0;
  /// Sends one message. Source bytes must stay until kSend.
  virtual void send(const SendRequest& request) = 0;
  /// Announces where a message goes. Late (after it came) and early posting are both fine. A message whose length
  /// differs completes with kMismatch, and so does one whose digest differs.
  virtual void post_recv(const RecvRequest& request) = 0;
  /// The view of a completed receive is no longer read: the sender's kSend may follow.
  virtual void release_view(std::uint64_t view_token) = 0;
  /// Pacing from now on, in bytes of IP packets per second over all connections; 0 is unpaced.
  virtual void set_rate(double bytes_per_second) = 0;
  virtual ChannelStats stats() const = 0;
  /// What keeps it from moving data right now, for the message of an operation that comes to its deadline; empty:
  /// nothing.
  virtual std::string trouble() const { return {}; }
};

/// A local, addressable side of a transport; owns its channels. Used by one thread at a time (whoever holds the
/// Domain's progress), except `wake` of the Domain that watches `wait_fd`.
class Endpoint {
 public:
  virtual ~Endpoint() = default;

  /// What peers need to reach it: opaque bytes, distributed by the bootstrap.
  virtual std::string address() const = 0;
  /// What it is, for the choice between transports. The same as long as it is open.
  virtual EndpointTraits traits() const { return {}; }
  /// The channel to a peer, made on first use; returns at once, connects in the background. A connection that cannot
  /// be made by `deadline` is a kBroken completion. Data that came from the peer before is delivered.
  virtual Result<Channel*> connect(PeerId peer, std::string_view peer_address, const ChannelOptions& options,
                                   std::chrono::steady_clock::time_point deadline) = 0;
  /// Moves data and fills `completions`; never blocks. Returns how many.
  virtual std::size_t poll(std::span<Completion> completions) = 0;
  /// Readable when poll has something to do, provided `arm` returned true since the last poll. -1: none (poll often).
  virtual int wait_fd() const noexcept = 0;
  /// Before blocking on wait_fd: false when there is something to poll right now.
  virtual bool arm() = 0;
  virtual Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> memory) = 0;
  /// As register_memory, of a mapping of all of `memfd` (which stays the caller's, and open): peers of this host may
  /// map it.
  virtual Result<std::unique_ptr<MemoryRegion>> share_memory(std::span<std::byte> memory, int /*memfd*/) {
    return register_memory(memory);
  }
  /// Forgets everything of a communicator: posted receives, unsent messages, data that waits. No completions follow.
  virtual void forget(std::uint64_t comm) = 0;
  /// Says goodbye on every channel and flushes until `deadline`.
  virtual void close(std::chrono::steady_clock::time_point deadline) = 0;
};

/// A driver: one folder under transports/, named nowhere else.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const = 0;
  virtual TransportCapabilities capabilities() const = 0;
  /// kUnsupported with the reason ("no RDMA device"): this host cannot use it. The Domain goes on without it then, and
  /// keeps the reason, unless LONGSPAN_TRANSPORTS names it. Any other failure ends the start.
  virtual Result<std::unique_ptr<Endpoint>> open(const EndpointOptions& options) = 0;
  /// What a channel opened so would be, as this host allows; nothing: there is nothing to choose.
  virtual std::optional<PathChoice> choose_path(const EndpointOptions& /*endpoint*/,
                                                const ChannelOptions& /*channel*/) const {
    return std::nullopt;
  }
};

}  // namespace longspan::spi

template <>
struct std::hash<longspan::spi::MessageId> {
  std::size_t operator()(const longspan::spi::MessageId& id) const noexcept {
    // splitmix64's finaliser: ids differ in few low bits.
    std::uint64_t x =
        id.comm ^ (std::uint64_t{id.seq} << 32 | id.stream) * 0x9e3779b97f4a7c15ULL ^ (std::uint64_t{id.chunk} << 17);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return static_cast<std::size_t>(x ^ (x >> 31));
  }
};
