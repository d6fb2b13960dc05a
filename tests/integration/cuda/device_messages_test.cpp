// What the transport promises of device memory, between two endpoints of this process. Processes: processes_test.cpp.
#include <string>
#include <thread>

#include "conformance/cases.hpp"
#include "gpu.hpp"
#include "longspan/spi/registry.hpp"

namespace longspan::conformance {
namespace {

using test::gpu::Memory;

spi::Transport& cuda_ipc() {
  for (spi::Transport* each : spi::all_transports()) {
    if (each->name() == "cuda_ipc") return *each;
  }
  std::abort();
}

/// Bytes on the host or on a device.
class Place {
 public:
  Place(bool on_device, const Bytes& bytes) : host_(bytes), memory_(0, bytes.empty() ? 1 : bytes.size()) {
    memory_.upload(host_.data(), host_.size());
    kind = on_device ? MemoryKind::kCuda : MemoryKind::kHost;
  }
  std::span<std::byte> span() {
    return {kind == MemoryKind::kHost ? host_.data() : static_cast<std::byte*>(memory_.get()), host_.size()};
  }
  Bytes read() {
    Bytes bytes = host_;
    if (kind == MemoryKind::kCuda) memory_.download(bytes.data(), bytes.size());
    return bytes;
  }
  MemoryKind kind = MemoryKind::kHost;

 private:
  Bytes host_;
  Memory memory_;
};

Op& send(Pair& pair, std::uint32_t seq, Place& from, std::uint64_t digest = 1) {
  return pair.a.send(2, id(seq), from.span(), digest, from.kind);
}
Op& recv(Pair& pair, std::uint32_t seq, Place& to, bool any_length = false, bool view_ok = false) {
  return pair.b.recv(1, id(seq), to.span(), 1, any_length, view_ok, to.kind);
}

}  // namespace

TEST_CASE("device memory arrives whichever side posts first, wherever the other side's memory is") {
  Pair pair(cuda_ipc());
  std::uint32_t seq = 0;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{2'000'001}}) {
    for (const auto& [from, to] : {std::pair(true, true), {true, false}, {false, true}}) {
      for (const bool late : {false, true}) {
        const Bytes data = pattern(size, ++seq);
        Place source(from, data), target(to, Bytes(size));
        Op* received = late ? nullptr : &recv(pair, seq, target);
        Op& sent = send(pair, seq, source);
        if (late) {
          REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
          CHECK(pair.b.arrivals.back().bytes == size);
          CHECK(pair.b.arrivals.back().digest == 1);
          pair.b.arrivals.clear();
          received = &recv(pair, seq, target);
        }
        CHECK_FALSE(received->done());
        CHECK_FALSE((sent.done() && from && size > 0));
        REQUIRE(pair.settle());
        CAPTURE(size, from, to, late, received->last.status.to_string());
        CHECK((sent.ok() && received->ok()));
        CHECK(received->last.bytes == size);
        CHECK(target.read() == data);
      }
    }
  }
  CHECK((pair.a.exactly_once() && pair.b.exactly_once()));
}

TEST_CASE("a view of device memory keeps its send open until it is released") {
  Pair pair(cuda_ipc());
  const Bytes data = pattern(70'000, 1);
  Place source(true, data), target(true, Bytes(data.size()));
  Op& received = recv(pair, 1, target, false, true);
  Op& sent = send(pair, 1, source);
  REQUIRE(pair.drive([&] { return received.done(); }));
  REQUIRE(received.ok());
  CHECK(received.last.view == source.span().data());  // of this process: where it is
  CHECK_FALSE(pair.drive([&] { return sent.done(); }, within(std::chrono::milliseconds(30))));
  pair.b.channel(1).release_view(received.last.view_token);
  REQUIRE(pair.settle());
  CHECK(sent.ok());
}

TEST_CASE("device memory of another length or digest is a mismatch, and the channel goes on") {
  Pair pair(cuda_ipc());
  Place source(true, pattern(1000, 1)), target(true, Bytes(1000)), shorter(true, Bytes(999));
  Op& other_call = recv(pair, 1, target);
  send(pair, 1, source, 2);
  Op& too_long = recv(pair, 2, shorter, true);
  Op& sent = send(pair, 2, source);
  Op& whole = recv(pair, 3, target);
  send(pair, 3, source);
  REQUIRE(pair.settle());
  CHECK(other_call.code() == StatusCode::kMismatch);
  CHECK(other_call.last.digest == 2);
  CHECK(too_long.code() == StatusCode::kMismatch);
  CHECK(sent.ok());
  CHECK(whole.ok());
}

TEST_CASE("a receive of device memory takes what is shorter, where any length will do") {
  Pair pair(cuda_ipc());
  for (const bool from : {true, false}) {
    const Bytes data = pattern(500, 9);
    Place source(from, data), target(true, Bytes(2000));
    Op& received = recv(pair, from ? 1 : 2, target, true);
    send(pair, from ? 1 : 2, source);
    REQUIRE(pair.settle());
    CHECK((received.ok() && received.last.bytes == 500));
    Bytes got = target.read();
    got.resize(500);
    CHECK(got == data);
  }
}

TEST_CASE("a forgotten communicator leaves nothing of its device memory behind, and others go on") {
  Pair pair(cuda_ipc());
  Place source(true, pattern(100'000, 1)), target(true, Bytes(100'000)), other(true, Bytes(100'000));
  for (std::uint32_t i = 0; i < 8; ++i) send(pair, i, source);
  recv(pair, 0, target);
  recv(pair, 99, target);  // never comes
  for (int i = 0; i < 3; ++i) {
    pair.a.step();
    pair.b.step();
  }
  pair.a.endpoint().forget(1);
  pair.b.endpoint().forget(1);
  Op& sent = pair.a.send(2, id(1, 0, 0, 2), source.span(), 1, source.kind);
  Op& received = pair.b.recv(1, id(1, 0, 0, 2), other.span(), 1, false, false, other.kind);
  REQUIRE(pair.drive([&] { return sent.done() && received.done(); }));
  CHECK((sent.ok() && received.ok()));
  CHECK(other.read() == source.read());
}

TEST_CASE("closing waits until the peer has read what was sent") {
  Pair pair(cuda_ipc());
  const Bytes data = pattern(3'000'000, 4);
  Place source(true, data), target(true, Bytes(data.size()));
  Op& received = recv(pair, 1, target);
  send(pair, 1, source);
  for (int i = 0; i < 2; ++i) pair.a.step();
  bool closed = false;
  std::thread closing([&] {
    pair.a.endpoint().close(in_time());
    closed = true;
  });
  const bool came = drive({&pair.b}, [&] { return received.done() && !pair.b.closed.empty(); });
  closing.join();
  CHECK((came && closed));
  CHECK(received.ok());
  CHECK(target.read() == data);
}

TEST_CASE("receives into device memory end with the peer") {
  Pair pair(cuda_ipc());
  Place target(true, Bytes(100));
  Op& waiting = recv(pair, 1, target);
  const bool goodbye = GENERATE(true, false);
  if (goodbye) pair.a.endpoint().close(in_time());
  pair.a.destroy();
  REQUIRE(drive({&pair.b}, [&] { return waiting.done(); }));
  CHECK(waiting.code() == StatusCode::kPeerLost);
  Op& late = recv(pair, 2, target);
  REQUIRE(drive({&pair.b}, [&] { return late.done(); }));
  CHECK(late.code() == StatusCode::kPeerLost);
}

TEST_CASE("a device that fails while it reads a peer's memory ends what it reads") {
  if (!test::gpu::ready(test::gpu::Needs::kDouble)) return;
  Pair pair(cuda_ipc());
  Place source(true, pattern(100'000, 1)), target(true, Bytes(100'000));
  test::gpu::inject("fault in cuMemcpyAsync", 1, 0);
  Op& received = recv(pair, 1, target);
  send(pair, 1, source);
  REQUIRE(pair.drive([&] { return received.done(); }));
  CHECK(received.last.status.to_string().find("CUDA_ERROR_ILLEGAL_ADDRESS") != std::string::npos);
}

}  // namespace longspan::conformance
