// A unique id is the address of a directory: a thread of the process that made the id, to which rank 0 (any process)
// says where it listens and which tells the others. It ends when rank 0 says that all came, or after kIdLifetime.
#include "bootstrap/unique_id.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>

#include "base/env.hpp"
#include "bootstrap/meeting.hpp"
#include "bootstrap/rendezvous_messages.hpp"
#include "bootstrap/wire.hpp"
#include "security/secret.hpp"

namespace longspan {
namespace bootstrap {
namespace {

constexpr char kIdMark[4] = {'L', 'S', 'I', 'D'};
constexpr std::uint8_t kIdVersion = 1;
constexpr std::size_t kMaxClients = 4096;
constexpr std::uint32_t kMaxBody = 4096;
constexpr std::chrono::seconds kTry{5};

enum class DirectoryMessage : std::uint16_t {
  kPublish = 16,  ///< rank 0: nonce, published addresses
  kWhere = 17,    ///< another rank: nonce
  kHere = 18,     ///< the answer: published addresses; empty: rank 0 has not come yet
  kDone = 19,     ///< rank 0: nonce; nobody needs the directory any more
};

std::string message(DirectoryMessage type, std::uint64_t nonce, std::string_view text) {
  Writer w;
  w.u64(nonce);
  w.text(text);
  return make_frame(static_cast<std::uint16_t>(type), std::move(w).take());
}

/// Serves one id. Lives on its own thread alone.
class Directory {
 public:
  Directory(Fd listener, std::uint64_t nonce, std::shared_ptr<const security::Guard> guard)
      : listener_(std::move(listener)), nonce_(nonce), guard_(std::move(guard)) {}

  void serve() {
    const TimePoint until = Clock::now() + kIdLifetime;
    while (!done_ && Clock::now() < until) {
      std::vector<pollfd> polls = {{listener_.get(), POLLIN, 0}};
      for (const Client& client : clients_) polls.push_back({client.stream.fd(), POLLIN, 0});
      ::poll(polls.data(), polls.size(), poll_timeout_ms(Clock::now(), until));
      accept_all();
      for (Client& client : clients_) hear(client);
      std::erase_if(clients_, [](const Client& client) { return !client.stream.valid(); });
    }
  }

 private:
  struct Client {
    Stream stream;
    FrameReader reader{kMaxBody};
  };

  void accept_all() {
    while (Fd fd = accept_next(listener_.get())) {
      clients_.push_back(Client{Stream::accepted(std::move(fd), guard_.get()), FrameReader(kMaxBody)});
      if (clients_.size() > kMaxClients) clients_.erase(clients_.begin());
    }
  }

  void hear(Client& client) {
    while (client.stream.valid()) {
      const FrameReader::State state = client.reader.read(client.stream);
      if (state == FrameReader::State::kNeedMore) return;
      client.stream.tell_of_key();
      if (state != FrameReader::State::kFrame || !answer(client, client.reader.take())) client.stream.reset();
    }
  }

  bool answer(Client& client, const Frame& frame) {
    Reader r(frame.body);
    const std::uint64_t nonce = r.u64();
    std::string text = r.text(kMaxBody);
    if (!r.ok() || nonce != nonce_) return false;
    switch (static_cast<DirectoryMessage>(frame.type)) {
      case DirectoryMessage::kPublish: published_ = std::move(text); break;
      case DirectoryMessage::kWhere: break;
      case DirectoryMessage::kDone: done_ = true; return true;
      default: return false;
    }
    FrameWriter writer;
    writer.push(message(DirectoryMessage::kHere, nonce_, published_));
    return writer.flush(client.stream) && writer.empty();
  }

  Fd listener_;
  std::uint64_t nonce_;
  std::shared_ptr<const security::Guard> guard_;  // shared with nobody: guards come so
  std::vector<Client> clients_;
  std::string published_;
  bool done_ = false;
};

class ByUniqueId final : public MeetingPlace {
 public:
  ByUniqueId(IdContents id, std::shared_ptr<const security::Guard> guard)
      : id_(std::move(id)), guard_(std::move(guard)) {}

  Result<Fd> open(TimePoint deadline) override {
    Status last = connect(std::min(deadline, Clock::now() + kTry));
    while (!last.ok() && Clock::now() < deadline) last = connect(std::min(deadline, Clock::now() + kTry));
    if (!last.ok()) return last;
    std::string text;
    LONGSPAN_ASSIGN(Fd listener, listen_and_publish({local_address(link_.fd())}, text));
    LONGSPAN_TRY(ask(DirectoryMessage::kPublish, text, deadline).status());
    return listener;
  }

  Result<std::vector<SocketAddress>> find(TimePoint until) override {
    if (!link_.valid()) LONGSPAN_TRY(connect(until));
    auto text = ask(DirectoryMessage::kWhere, "", until);
    if (!text.ok()) {
      link_.reset();
      return text.status();
    }
    if (text->empty()) return Status(StatusCode::kTimeout, "rank 0 has not come to it");
    return parse_published(*text);
  }

  void close() override {
    if (link_.valid()) (void)send_all(link_, message(DirectoryMessage::kDone, id_.nonce, ""), Clock::now() + kTry);
    link_.reset();
  }

  std::string describe() const override {
    return fmt::format("the unique id {:016x} made at {}", id_.nonce,
                       id_.addresses.empty() ? std::string("?") : id_.addresses.front().to_string());
  }

 private:
  Status connect(TimePoint until) {
    Status last(StatusCode::kPeerLost, "the id holds no address");
    const auto share = (until - Clock::now()) / static_cast<int>(std::max<std::size_t>(1, id_.addresses.size()));
    for (const SocketAddress& address : id_.addresses) {
      auto fd = connect_to(address, std::min(until, Clock::now() + share));
      if (fd.ok()) {
        link_ = Stream::dialed(std::move(*fd), guard_.get(), {"id", "", fmt::format("{:016x}", id_.nonce), "", true});
        return {};
      }
      last = fd.status().with_context("the process that made the unique id cannot be reached");
    }
    return last;
  }

  Result<std::string> ask(DirectoryMessage type, const std::string& text, TimePoint until) {
    if (const Status sent = send_all(link_, message(type, id_.nonce, text), until); !sent.ok()) {
      return sent.with_context("the process that made the unique id");
    }
    FrameReader reader(kMaxBody);
    while (true) {
      const FrameReader::State state = reader.read(link_);
      if (state == FrameReader::State::kFrame) break;
      if (state != FrameReader::State::kNeedMore) {
        return Status(StatusCode::kPeerLost,
                      "what listens at the address of the unique id does not know it; is it of an "
                      "earlier run?");
      }
      if (!wait_ready(link_.fd(), POLLIN, until)) {
        return Status(StatusCode::kTimeout, "the process that made the unique id does not answer");
      }
    }
    const Frame frame = reader.take();
    if (frame.type == static_cast<std::uint16_t>(RendezvousMessage::kKeyNeeded)) {
      return Status(StatusCode::kMismatch,
                    "the process that made the unique id has the job's key (LONGSPAN_KEY), this rank has none");
    }
    Reader r(frame.body);
    const bool fits = r.u64() == id_.nonce && frame.type == static_cast<std::uint16_t>(DirectoryMessage::kHere);
    std::string answer = r.text(kMaxBody);
    if (!fits || !r.ok()) return Status(StatusCode::kInvalidArgument, "the unique id leads to another program");
    return answer;
  }

  IdContents id_;
  std::shared_ptr<const security::Guard> guard_;  // shared with the request
  Stream link_;
};

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

UniqueId pack(const IdContents& contents) {
  Writer w;
  w.u8(kIdVersion);
  w.u16(contents.port);
  w.u64(contents.nonce);
  std::string bytes = std::string(kIdMark, sizeof kIdMark) + std::move(w).take();
  for (const SocketAddress& a : contents.addresses) {
    const bool v6 = a.family() == AF_INET6;
    const void* raw = v6 ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(a.get())->sin6_addr)
                         : static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(a.get())->sin_addr);
    const std::size_t length = v6 ? 16 : 4;
    if (bytes.size() + 1 + length > UniqueId::kBytes) continue;
    bytes.push_back(static_cast<char>(length));
    bytes.append(static_cast<const char*>(raw), length);
  }
  UniqueId id;
  std::memcpy(id.bytes, bytes.data(), bytes.size());
  return id;
}

Result<IdContents> unpack(const UniqueId& id) {
  const Status malformed(StatusCode::kInvalidArgument,
                         "the unique id was not made by make_unique_id of this version of longspan, or was damaged");
  if (std::memcmp(id.bytes, kIdMark, sizeof kIdMark) != 0) return malformed;
  std::string_view left(id.bytes + sizeof kIdMark, UniqueId::kBytes - sizeof kIdMark);
  constexpr std::size_t kFixed = 11;
  Reader r(left.substr(0, kFixed));
  IdContents contents;
  if (r.u8() != kIdVersion) return malformed;
  contents.port = r.u16();
  contents.nonce = r.u64();
  left.remove_prefix(kFixed);
  while (!left.empty() && left[0] != 0) {
    const auto length = static_cast<std::size_t>(static_cast<unsigned char>(left[0]));
    if ((length != 4 && length != 16) || left.size() < 1 + length) return malformed;
    auto address = make_address(length == 4 ? "0.0.0.0" : "::", contents.port);
    if (!address.ok()) return malformed;
    void* raw = length == 4 ? static_cast<void*>(&reinterpret_cast<sockaddr_in*>(address->get())->sin_addr)
                            : static_cast<void*>(&reinterpret_cast<sockaddr_in6*>(address->get())->sin6_addr);
    std::memcpy(raw, left.data() + 1, length);
    contents.addresses.push_back(*address);
    left.remove_prefix(1 + length);
  }
  if (contents.port == 0 || contents.addresses.empty()) return malformed;
  return contents;
}

Result<LaunchInfo> launch_info_for(const UniqueId& id, int rank, int size) {
  LONGSPAN_ASSIGN(const IdContents contents, unpack(id));
  LaunchInfo info;
  info.launcher = "unique id";
  info.rank = rank;
  info.size = size;
  info.run_id = fmt::format("{:016x}", contents.nonce);
  info.master_address = "id:";
  for (const char c : id.bytes) info.master_address += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return info;
}

Result<std::unique_ptr<MeetingPlace>> unique_id_place(std::string_view hex,
                                                      std::shared_ptr<const security::Guard> guard) {
  UniqueId id;
  const Status malformed(StatusCode::kInvalidArgument, "a unique id has 256 hexadecimal digits");
  if (hex.size() != 2 * UniqueId::kBytes) return malformed;
  for (std::size_t i = 0; i < UniqueId::kBytes; ++i) {
    const int high = digit_of(hex[2 * i]);
    const int low = digit_of(hex[2 * i + 1]);
    if (high < 0 || low < 0) return malformed;
    id.bytes[i] = static_cast<char>(high * 16 + low);
  }
  LONGSPAN_ASSIGN(IdContents contents, unpack(id));
  return std::unique_ptr<MeetingPlace>(std::make_unique<ByUniqueId>(std::move(contents), std::move(guard)));
}

}  // namespace bootstrap

Result<UniqueId> make_unique_id(const std::optional<std::string>& key) {
  using namespace bootstrap;
  std::string secret = key.value_or("");
  if (!key) {
    LONGSPAN_ASSIGN(secret, security::secret_from_environment());
  }
  LONGSPAN_ASSIGN(auto guard, security::Guard::open(secret));
  PortRange ports;
  if (const auto range = env::get("LONGSPAN_PORT_RANGE")) {
    LONGSPAN_ASSIGN(ports, parse_port_range(*range));
  }
  LONGSPAN_ASSIGN(Fd listener, listen_on_port_of(ports));
  IdContents contents;
  contents.nonce = random_number();
  contents.port = local_address(listener.get()).port();
  contents.addresses = interface_addresses();
  auto directory = std::make_unique<Directory>(std::move(listener), contents.nonce, std::move(guard));
  try {
    std::thread([directory = std::move(directory)] { directory->serve(); }).detach();
  } catch (const std::system_error& error) {
    return Status(StatusCode::kResource, fmt::format("no thread for a unique id: {}", error.what()));
  }
  return pack(contents);
}

}  // namespace longspan
