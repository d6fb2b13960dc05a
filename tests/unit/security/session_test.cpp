// Two ends of a connection and what they believe of each other.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "security/session.hpp"
#include "support/catch.hpp"
#include "support/pattern.hpp"

namespace longspan::security {
namespace {

using Progress = Session::Progress;
constexpr std::string_view kKey = "correct horse battery staple";

struct Ends {
  Ends() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
    a.reset(fds[0]);
    b.reset(fds[1]);
  }
  Fd a;
  Fd b;
};

/// Over TCP, which is what kernels know TLS for.
Ends tcp_ends() {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(::bind(listener.get(), raw, length) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), raw, &length) == 0);
  Ends ends;
  ends.a.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::connect(ends.a.get(), raw, length) == 0);
  ends.b.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  REQUIRE(::fcntl(ends.a.get(), F_SETFL, O_NONBLOCK) == 0);
  return ends;
}

std::shared_ptr<const Guard> guard(std::string_view key = kKey) { return Guard::open(key).value(); }

/// Lets both go on in turn until neither can.
std::pair<Progress, Progress> shake(Session& dialed, Session& accepted) {
  Progress d = Progress::kWantsRead;
  Progress a = Progress::kWantsRead;
  for (int round = 0; round < 10; ++round) {
    d = dialed.handshake();
    a = accepted.handshake();
  }
  return {d, a};
}

std::string receive(int fd) {
  std::string text(1000, '\0');
  const ssize_t got = ::recv(fd, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

iovec vector_of(std::vector<std::byte>& bytes, std::size_t from, std::size_t length) {
  return {bytes.data() + from, length};
}

bool readable(int fd) {
  pollfd wait{fd, POLLIN, 0};
  return ::poll(&wait, 1, 10'000) == 1;
}

/// As shake(), where bytes take their time.
bool shake_hands(Session& dialed, Session& accepted, const Ends& ends) {
  while (!dialed.done() || !accepted.done()) {
    if (dialed.handshake() == Progress::kWantsRead && accepted.done()) return false;
    if (!accepted.done() && (!readable(ends.b.get()) || accepted.handshake() == Progress::kFailed)) return false;
    if (!dialed.done() && !readable(ends.a.get())) return false;
  }
  return true;
}

/// True where the kernel encrypts for `session`; says so where it does not.
bool by_kernel(const Session& session) {
  if (session.kernel_encrypts()) return true;
  std::puts("SKIP: security: this kernel has no TLS of its own (modprobe tls)");
  return false;
}

/// Everything through a sealed pair, whatever the socket takes at a time.
std::vector<std::byte> carry(Session& from, Session& to, std::vector<std::byte>& data, std::size_t piece) {
  std::vector<std::byte> received(data.size());
  std::size_t sent = 0;
  std::size_t have = 0;
  while (have < received.size()) {
    std::vector<iovec> vectors;
    for (std::size_t at = sent; at < data.size() && vectors.size() < 64; at += piece) {
      vectors.push_back(vector_of(data, at, std::min(piece, data.size() - at)));
    }
    if (!vectors.empty()) sent += from.write(vectors).bytes;
    const iovec into = vector_of(received, have, received.size() - have);
    const Moved moved = to.read(std::span(&into, 1));
    if (moved.result == MoveResult::kFailed) return {};
    have += moved.bytes;
  }
  return received;
}

}  // namespace

TEST_CASE("HKDF is that of RFC 5869") {
  // Test case 1 of its appendix, as far as its first 32 bytes.
  const std::string secret(22, '\x0b');
  std::string salt;
  for (char c = 0; c <= 0x0c; ++c) salt += c;
  std::string label;
  for (int c = 0xf0; c <= 0xf9; ++c) label += static_cast<char>(c);
  const std::array<unsigned char, 32> expected{0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f,
                                               0x64, 0xd0, 0x36, 0x2f, 0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a,
                                               0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf};
  const std::string key = derive_key(secret, salt, label);
  REQUIRE(key.size() == expected.size());
  CHECK(std::equal(expected.begin(), expected.end(), key.begin(),
                   [](unsigned char a, char b) { return a == static_cast<unsigned char>(b); }));
}

TEST_CASE("Two who hold the key learn who dials, whom, and what for") {
  const Introduction who{"data", "1", "2", "eu-1", true};
  Ends ends;
  const auto dialed = guard()->dial(ends.a.get(), who);
  const auto accepted = guard()->accept(ends.b.get());
  CHECK(shake(*dialed, *accepted) == std::pair(Progress::kDone, Progress::kDone));
  CHECK(accepted->introduction() == who);
}

TEST_CASE("Without a key there is no guard") { CHECK(Guard::open("").value() == nullptr); }

TEST_CASE("Who holds another key is told so on both sides, with the claim who it was") {
  Ends ends;
  const auto dialed = guard("another key than the other's")->dial(ends.a.get(), {"rendezvous", "3", "0", "eu-9", true});
  const auto accepted = guard()->accept(ends.b.get());
  CHECK(shake(*dialed, *accepted) == std::pair(Progress::kFailed, Progress::kFailed));
  CHECK(dialed->failure() == Failure::kOtherKey);
  CHECK(accepted->failure() == Failure::kOtherKey);
  REQUIRE(accepted->introduction().has_value());
  CHECK(accepted->introduction()->from == "3");
  CHECK(accepted->introduction()->host == "eu-9");
}

TEST_CASE("Who has no key at all can still be named") {
  Ends ends;
  const auto dialed = Guard::keyless()->dial(ends.a.get(), {"rendezvous", "2", "0", "us-1", true});
  const auto accepted = guard()->accept(ends.b.get());
  shake(*dialed, *accepted);
  CHECK(accepted->failure() == Failure::kOtherKey);
  CHECK(accepted->introduction()->from == "2");
}

TEST_CASE("One who speaks longspan without a key is told from a stranger") {
  const auto [begin, failure] =
      GENERATE(table<std::string, Failure>({{"LONGSPAN and more", Failure::kNoKey},
                                            {"LSPN frame", Failure::kNoKey},
                                            {"GET / HTTP/1.1\r\n\r\n", Failure::kStranger},
                                            {"L", Failure::kStranger},
                                            {std::string("\x16\x03\x01\x00\x05garbage", 12), Failure::kStranger},
                                            {std::string("\x16\xff\xff\xff\xff", 5), Failure::kStranger},
                                            {std::string(300, '\0'), Failure::kStranger}}));
  INFO(begin);
  Ends ends;
  const auto accepted = guard()->accept(ends.b.get());
  CHECK(accepted->handshake() == Progress::kWantsRead);
  REQUIRE(::send(ends.a.get(), begin.data(), begin.size(), 0) == static_cast<ssize_t>(begin.size()));
  CHECK(accepted->handshake() == Progress::kFailed);
  CHECK(accepted->failure() == failure);
  CHECK(accepted->handshake() == Progress::kFailed);  // and stays so
}

TEST_CASE("Half a handshake waits, its end is noticed") {
  Ends ends;
  const auto accepted = guard()->accept(ends.b.get());
  REQUIRE(::send(ends.a.get(), "\x16\x03\x01\x02", 4, 0) == 4);
  CHECK(accepted->handshake() == Progress::kWantsRead);
  ends.a.reset();
  CHECK(accepted->handshake() == Progress::kFailed);
  CHECK(accepted->failure() == Failure::kNetwork);
}

TEST_CASE("A recorded handshake played again proves nothing") {
  std::string recorded;
  {
    Ends ends;
    const auto dialed = guard()->dial(ends.a.get(), {"data", "1", "2", "", true});
    CHECK(dialed->handshake() == Progress::kWantsRead);
    recorded = receive(ends.b.get());
  }
  REQUIRE(recorded.size() > 100);
  Ends ends;
  const auto accepted = guard()->accept(ends.b.get());
  REQUIRE(::send(ends.a.get(), recorded.data(), recorded.size(), 0) == static_cast<ssize_t>(recorded.size()));
  CHECK(accepted->handshake() == Progress::kWantsRead);
  const std::string answer = receive(ends.a.get());
  CHECK_FALSE(answer.empty());
  // The rest of the recording cannot fit the answer: take the answer itself for it.
  REQUIRE(::send(ends.a.get(), answer.data(), answer.size(), 0) == static_cast<ssize_t>(answer.size()));
  CHECK(accepted->handshake() == Progress::kFailed);
  CHECK_FALSE(accepted->done());
}

TEST_CASE("What comes behind an open handshake is left in the socket") {
  Ends ends;
  const auto dialed = guard()->dial(ends.a.get(), {"data", "1", "2", "", false});
  const auto accepted = guard()->accept(ends.b.get());
  CHECK(dialed->handshake() == Progress::kWantsRead);
  CHECK(accepted->handshake() == Progress::kWantsRead);
  CHECK(dialed->handshake() == Progress::kDone);
  REQUIRE(::send(ends.a.get(), "plain", 5, 0) == 5);  // at once, behind the last bytes of the handshake
  CHECK(accepted->handshake() == Progress::kDone);
  CHECK_FALSE(accepted->introduction()->sealed);
  CHECK_FALSE(accepted->buffered());
  CHECK(receive(ends.b.get()) == "plain");
  REQUIRE(::send(ends.b.get(), "and back", 8, 0) == 8);
  CHECK(receive(ends.a.get()) == "and back");
}

TEST_CASE("Sealed bytes arrive whole, in whatever pieces, across new keys") {
  const std::size_t piece = GENERATE(std::size_t{1}, 56, 1000, 16384, 40000, 300000);
  const std::uint64_t rekey = GENERATE(std::uint64_t{20000}, Guard::kRekeyAfter);
  const auto keys = Guard::open(kKey, rekey).value();
  Ends ends;
  const auto dialed = keys->dial(ends.a.get(), {"data", "1", "2", "", true});
  const auto accepted = keys->accept(ends.b.get());
  REQUIRE(shake(*dialed, *accepted) == std::pair(Progress::kDone, Progress::kDone));
  std::vector<std::byte> data = testing::pattern(piece == 1 ? 50'000 : 1'000'003, 7);
  CHECK(carry(*dialed, *accepted, data, piece) == data);
  CHECK(carry(*accepted, *dialed, data, piece) == data);
}

TEST_CASE("Where the kernel encrypts, bytes arrive whole, from memory that is used again at once", "[kernel]") {
  const Ends ends = tcp_ends();
  const auto dialed = guard()->dial(ends.a.get(), {"data", "1", "2", "", true});
  const auto accepted = guard()->accept(ends.b.get());
  REQUIRE(shake_hands(*dialed, *accepted, ends));
  if (!by_kernel(*dialed)) return;
  CHECK(accepted->kernel_encrypts());
  const std::vector<std::byte> data = testing::pattern(6'000'000, 7);
  for (const auto& [from, to, to_fd] : {std::tuple(dialed.get(), accepted.get(), ends.b.get()),
                                        std::tuple(accepted.get(), dialed.get(), ends.a.get())}) {
    std::vector<std::byte> received(data.size());
    std::size_t sent = 0;
    std::size_t have = 0;
    bool blocked = false;
    std::vector<std::byte> scratch(100'000);
    while (have < received.size()) {
      for (Moved put{}; sent < data.size() && put.result == MoveResult::kDone; sent += put.bytes) {
        const std::size_t part = std::min(scratch.size(), data.size() - sent);
        std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(sent), part, scratch.begin());
        const std::size_t cut = part / 3;
        const std::array<iovec, 2> vectors{vector_of(scratch, 0, cut), vector_of(scratch, cut, part - cut)};
        put = from->write(vectors);
        std::fill(scratch.begin(), scratch.end(), std::byte{0xee});
        REQUIRE(put.result != MoveResult::kFailed);
        blocked = blocked || put.result == MoveResult::kBlocked;
      }
      REQUIRE(readable(to_fd));
      const iovec into = vector_of(received, have, received.size() - have);
      const Moved got = to->read(std::span(&into, 1));
      REQUIRE(got.result != MoveResult::kFailed);
      have += got.bytes;
    }
    CHECK(received == data);
    CHECK(blocked);
  }
}

TEST_CASE("Where the kernel encrypts, a connection ends before its key has encrypted too much", "[kernel]") {
  constexpr std::uint64_t kRecords = 20;
  const auto keys = Guard::open(kKey, kRecords * Guard::kBytesPerRecordAtLeast).value();
  const Ends ends = tcp_ends();
  const auto dialed = keys->dial(ends.a.get(), {"data", "1", "2", "", true});
  const auto accepted = keys->accept(ends.b.get());
  REQUIRE(shake_hands(*dialed, *accepted, ends));
  if (!by_kernel(*dialed)) return;
  std::string text = "short";
  const iovec out{text.data(), text.size()};
  std::uint64_t records = 0;
  Moved put;
  while ((put = dialed->write(std::span(&out, 1))).result == MoveResult::kDone) ++records;
  CHECK(records == kRecords);
  CHECK(put.error == EKEYEXPIRED);
  std::string got(records * text.size() + 1, '\0');
  iovec in{got.data(), got.size()};
  std::size_t have = 0;
  Moved moved;
  while (readable(ends.b.get()) && (moved = accepted->read(std::span(&in, 1))).result != MoveResult::kEnd) {
    REQUIRE(moved.result != MoveResult::kFailed);
    have += moved.bytes;
  }
  CHECK(have == records * text.size());
}

TEST_CASE("Only connections for data are left to the kernel: others must outlive a key", "[kernel]") {
  const Ends ends = tcp_ends();
  const auto dialed = guard()->dial(ends.a.get(), {"control", "1", "2", "", true});
  const auto accepted = guard()->accept(ends.b.get());
  REQUIRE(shake_hands(*dialed, *accepted, ends));
  CHECK_FALSE(dialed->kernel_encrypts());
  CHECK_FALSE(accepted->kernel_encrypts());
}

TEST_CASE("Nobody on the way reads or changes what is sealed") {
  Ends near;
  Ends far;
  const auto dialed = guard()->dial(near.a.get(), {"data", "1", "2", "", true});
  const auto accepted = guard()->accept(far.b.get());
  const auto pass = [](const Fd& from, const Fd& to) {
    const std::string bytes = receive(from.get());
    if (!bytes.empty()) (void)!::send(to.get(), bytes.data(), bytes.size(), 0);
    return bytes;
  };
  for (int i = 0; i < 5; ++i) {
    dialed->handshake();
    pass(near.b, far.a);
    accepted->handshake();
    pass(far.a, near.b);
  }
  REQUIRE(dialed->done());
  REQUIRE(accepted->done());
  std::string secret = "gradients of a secret model";
  const iovec out{secret.data(), secret.size()};
  REQUIRE(dialed->write(std::span(&out, 1)).bytes == secret.size());
  std::string seen = receive(near.b.get());
  CHECK(seen.find("gradients") == std::string::npos);
  seen[seen.size() / 2] = static_cast<char>(seen[seen.size() / 2] ^ 1);
  REQUIRE(::send(far.a.get(), seen.data(), seen.size(), 0) == static_cast<ssize_t>(seen.size()));
  std::string got(100, '\0');
  const iovec in{got.data(), got.size()};
  const Moved moved = accepted->read(std::span(&in, 1));
  CHECK(moved.result == MoveResult::kFailed);
  CHECK(moved.error == EBADMSG);
}

TEST_CASE("The end of a sealed stream is an end, and writing into it is an error without a signal") {
  Ends ends;
  const auto dialed = guard()->dial(ends.a.get(), {"data", "1", "2", "", true});
  const auto accepted = guard()->accept(ends.b.get());
  REQUIRE(shake(*dialed, *accepted) == std::pair(Progress::kDone, Progress::kDone));
  ends.a.reset();
  std::string got(100, '\0');
  const iovec vector{got.data(), got.size()};
  CHECK(accepted->read(std::span(&vector, 1)).result == MoveResult::kEnd);
  CHECK(accepted->write(std::span(&vector, 1)).result == MoveResult::kFailed);
}

}  // namespace longspan::security
