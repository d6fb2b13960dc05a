#include "bootstrap/meeting.hpp"

#include <poll.h>
#include <rapidcheck.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>

#include "bootstrap/rendezvous.hpp"
#include "bootstrap/tcp_store.hpp"
#include "bootstrap/unique_id.hpp"
#include "bootstrap/wire.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;
using std::chrono::seconds;

namespace {

/// Answers as a TCPStore would, from a script: reads `expected`, writes `answer`, and so on.
class ScriptedStore {
 public:
  using Script = std::vector<std::pair<std::string, std::string>>;
  explicit ScriptedStore(Script script)
      : listener_(listen_everywhere({}).value()), thread_([this, script = std::move(script)] { play(script); }) {}
  ~ScriptedStore() { finish(); }
  void finish() {
    if (thread_.joinable()) thread_.join();
  }
  SocketAddress address() const { return *make_address("127.0.0.1", local_address(listener_.get()).port()); }
  std::string heard() const { return heard_; }  ///< after finish()

 private:
  void play(const Script& script) {
    const TimePoint until = Clock::now() + seconds(10);
    if (!wait_ready(listener_.get(), POLLIN, until)) return;
    const Fd peer = accept_next(listener_.get());
    std::uint32_t nonce = 0;
    for (const auto& [expected, answer] : script) {
      auto got = receive_exactly(peer.get(), expected.size(), until);
      if (!got.ok()) return;
      if (expected.size() == 10) std::memcpy(&nonce, got->data() + 6, 4);  // the greeting ends with it
      heard_ += *got;
      const std::string pong(reinterpret_cast<const char*>(&nonce), 4);
      (void)send_all(peer.get(), answer == "pong" ? pong : answer, until);
    }
  }

  Fd listener_;
  std::string heard_;
  std::thread thread_;
};

std::string text64(const std::string& text) {
  Writer w;
  w.u64(text.size());
  return std::move(w).take() + text;
}

const std::string kGreeting(10, '?');

}  // namespace

TEST_CASE("the store's protocol is spoken byte for byte") {
  const TimePoint until = Clock::now() + seconds(10);
  Writer one;
  one.u64(1);
  const std::string count = std::move(one).take();
  const std::string set = "\x01" + text64("/k") + text64("value");
  const std::string check = "\x05" + count + text64("/k");
  const std::string get = "\x03" + text64("/k");
  const std::string remove = "\x08" + text64("/k");
  const std::string ready(1, '\0');
  const std::string not_ready(1, '\1');
  ScriptedStore server(
      {{kGreeting, "pong"}, {set, ""}, {check, not_ready}, {check, ready}, {get, text64("value")}, {remove, count}});
  auto store = TcpStore::connect(server.address(), until);
  REQUIRE(store.ok());
  CHECK(store->set("k", "value", until).ok());
  CHECK(store->get("k", until).value() == std::nullopt);
  CHECK(store->get("k", until).value() == "value");
  CHECK(store->remove("k", until).ok());
  server.finish();
  CHECK(server.heard().substr(0, 6) == std::string("\0\xce\xf7\x85\x3c\x0d", 6));
  CHECK(server.heard().substr(10) == set + check + check + get + remove);
}

TEST_CASE("what is not a store is told from one, and a lying store harms nobody") {
  const TimePoint until = Clock::now() + seconds(10);
  {
    ScriptedStore http({{kGreeting, "HTTP/1.1 400 Bad Request"}});
    CHECK(TcpStore::connect(http.address(), until).status().code() == StatusCode::kInvalidArgument);
  }
  {
    ScriptedStore closes({{kGreeting, ""}});
    CHECK(TcpStore::connect(closes.address(), until).status().code() == StatusCode::kPeerLost);
  }
  {
    const std::string check(std::string("\x05") + std::string(8, '?') + text64("/k"));
    ScriptedStore lies(
        {{kGreeting, "pong"}, {check, std::string(1, '\0')}, {"\x03" + text64("/k"), std::string(8, '\xff')}});
    auto store = TcpStore::connect(lies.address(), until);
    REQUIRE(store.ok());
    CHECK(store->get("k", until).status().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("published addresses are read back, and nothing else is") {
  const auto text = published_addresses(1234, {*make_address("10.1.2.3", 0)});
  const auto back = parse_published(text);
  REQUIRE(back.ok());
  CHECK(back->front().to_string() == "10.1.2.3:1234");
  for (const char* bad : {"", "longspan-1", "longspan-1 0 1.2.3.4", "longspan-1 70000 1.2.3.4", "longspan-1 12 host",
                          "other 12 1.2.3.4"}) {
    CHECK_FALSE(parse_published(bad).ok());
  }
  CHECK(rc::check([](const std::string& any) { (void)parse_published("longspan-1 12 " + any); }));
}

TEST_CASE("a unique id holds the addresses that fit, and damage is noticed") {
  IdContents contents;
  contents.nonce = 0x123456789abcdef0;
  contents.port = 999;
  for (const char* ip : {"10.0.0.1", "fd00::1", "192.168.7.7", "127.0.0.1", "::1"}) {
    contents.addresses.push_back(*make_address(ip, 999));
  }
  const UniqueId id = pack(contents);
  const auto back = unpack(id);
  REQUIRE(back.ok());
  CHECK(back->nonce == contents.nonce);
  REQUIRE(back->addresses.size() == 5);
  CHECK(back->addresses[1].to_string() == "[fd00::1]:999");
  for (int i = 0; i < 20; ++i) contents.addresses.push_back(*make_address("fd00::2", 999));
  CHECK(unpack(pack(contents))->addresses.size() > 5);
  CHECK_FALSE(unpack(UniqueId{}).ok());
  CHECK(rc::check([](const std::vector<char>& noise) {
    UniqueId any;
    std::memcpy(any.bytes, "LSID\1", 5);
    for (std::size_t i = 0; i < noise.size() && i + 5 < UniqueId::kBytes; ++i) any.bytes[i + 5] = noise[i];
    (void)unpack(any);
  }));
}

TEST_CASE("ranks are listed briefly") {
  CHECK(describe_ranks({}) == "");
  CHECK(describe_ranks({0, 1, 2, 5, 7, 8}) == "0-2 5 7-8");
}

TEST_CASE("rank 0 listens within its ports, and publishes the address that others dial") {
  const std::uint16_t first = local_address(listen_everywhere({}).value().get()).port();
  const std::string path = "/tmp/longspan-meeting-" + std::to_string(::getpid());
  const PortRange ports{first, static_cast<std::uint16_t>(std::min(65535, first + 50))};
  std::vector<Fd> listeners;
  for (int i = 0; i < 2; ++i) {  // the second finds the first port taken
    auto place = file_place(path);
    place->listen_within(ports, "192.0.2.7");
    listeners.push_back(place->open(Clock::now() + std::chrono::seconds(5)).value());
    const auto published = place->find(Clock::now() + std::chrono::seconds(5));
    REQUIRE(published.ok());
    CHECK(published->front().ip() == "192.0.2.7");
    CHECK(published->front().port() >= ports.first);
    CHECK(published->front().port() <= ports.last);
    place->close();
  }
  CHECK(local_address(listeners[0].get()).port() != local_address(listeners[1].get()).port());
  const std::uint16_t taken = local_address(listeners[0].get()).port();
  const auto none = listen_on_port_of({taken, taken});
  CHECK(none.status().code() == StatusCode::kResource);
  CHECK(std::string(none.status().message()).find("LONGSPAN_PORT_RANGE") != std::string::npos);
}

TEST_CASE("a range of ports is one port or two in order") {
  CHECK(parse_port_range("20000-20100")->last == 20100);
  CHECK(parse_port_range("20000")->last == 20000);
  for (const char* bad : {"", "-", "0", "1-", "-5", "5-4", "70000", "5-x", "1-2-3"}) {
    INFO(bad);
    CHECK_FALSE(parse_port_range(bad).ok());
  }
}
