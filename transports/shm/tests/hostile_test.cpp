// Whoever may open the socket of an endpoint, and a peer whose memory went mad, can neither crash nor hang it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "shm/tests/side.hpp"

using namespace longspan;
using namespace longspan::shm;

namespace {

std::string name_of(Side& side) { return side.endpoint().address().substr(std::strlen("shm1:")); }

/// A program that opens an endpoint's socket and says what it likes.
class Stranger {
 public:
  explicit Stranger(Side& side) : socket_(*dial(name_of(side)).value()) {
    hello_.job = kJob;
    hello_.self = 66;
    hello_.credit = 1 << 20;
    hello_.probe_address = reinterpret_cast<std::uint64_t>(&probe_);
    hello_.probe_value = probe_;
  }
  Hello& hello() { return hello_; }
  void say(std::span<const std::byte> bytes, std::span<const int> fds = {}) {
    REQUIRE(send_packet(socket_, bytes, fds).ok());
  }
  void say_hello(std::span<const int> fds) { say(std::as_bytes(std::span(&hello_, 1)), fds); }
  /// As a real peer does, with memory of its own.
  void say_hello() {
    segment_ = SharedMemory::create(kSegmentBytes, "hostile").value();
    page_ = SharedMemory::create(kBellBytes, "hostile").value();
    heap_ = SharedMemory::create(StagingHeap::kBytes, "hostile").value();
    bell_ = Bell::create().value();
    auto& header = *new (segment_.data()) SegmentHeader;
    forward = RingWriter(segment_.data() + kHeaderBytes, kForwardBytes, &header.forward, segment_.data());
    hello_.segment_address = reinterpret_cast<std::uint64_t>(segment_.data());
    say_hello(fds());
  }
  std::vector<int> fds() const { return {segment_.fd(), page_.fd(), bell_.fd(), heap_.fd()}; }
  /// The verdict that came, if one did.
  std::optional<Verdict> verdict() {
    Welcome welcome;
    std::size_t length = 0;
    std::vector<Fd> fds;
    if (receive_packet(socket_, std::as_writable_bytes(std::span(&welcome, 1)), length, fds) != Received::kPacket)
      return std::nullopt;
    return length == sizeof(welcome) ? std::optional(welcome.verdict) : std::nullopt;
  }
  bool dropped() {
    std::array<std::byte, 256> bytes;
    std::size_t length = 0;
    std::vector<Fd> fds;
    return receive_packet(socket_, bytes, length, fds) == Received::kEnd;
  }
  void leave() { socket_.reset(); }
  /// Where it could be called back; it does not answer.
  std::string address() const { return "shm1:" + listener_.name; }

  RingWriter forward;

 private:
  Fd socket_;
  Listener listener_ = listen_anywhere().value();
  Hello hello_;
  std::uint64_t probe_ = 0x5eed;
  SharedMemory segment_;
  SharedMemory page_;
  SharedMemory heap_;
  Bell bell_;
};

/// The endpoint still serves its job.
void still_works(Side& side) {
  Side other(2);
  side.connect(2, other.endpoint().address());
  other.connect(1, side.endpoint().address());
  const Bytes source = pattern(50'000, 1);
  Bytes target(source.size());
  const Op& sent = other.send(id(1), source);
  const Op& got = side.recv(id(1), target);
  REQUIRE(drive({&side, &other}, [&] { return sent.done() && got.done(); }));
  CHECK(got.ok());
  CHECK(target == source);
}

/// With or without a word.
bool is_dropped(Side& side, Stranger& stranger) {
  return drive({&side}, [&] { return stranger.dropped(); });
}

std::optional<Verdict> verdict_of(Side& side, Stranger& stranger) {
  std::optional<Verdict> verdict;
  static_cast<void>(drive({&side}, [&] {
    if (!verdict) verdict = stranger.verdict();
    return verdict.has_value();
  }));
  return verdict;
}

}  // namespace

TEST_CASE("a stranger that does not greet is dropped without a trace", "[shm]") {
  Side side(1);
  SECTION("noise of any length") {
    std::mt19937 random(1);
    for (const std::size_t size : {1UL, 8UL, sizeof(Hello) - 1, sizeof(Hello), sizeof(Hello) + 1, 4000UL}) {
      Stranger stranger(side);
      Bytes noise(size);
      for (auto& byte : noise) byte = static_cast<std::byte>(random());
      stranger.say(noise);
      CHECK(is_dropped(side, stranger));
    }
  }
  SECTION("noise with descriptors, which are closed again") {
    int pipe[2];
    REQUIRE(::pipe2(pipe, O_CLOEXEC | O_NONBLOCK) == 0);
    const Fd reader(pipe[0]);
    {
      Stranger stranger(side);
      const Fd writer(pipe[1]);
      const std::array<int, 2> fds{writer.get(), writer.get()};
      stranger.say(Bytes(10), fds);
      CHECK(is_dropped(side, stranger));
    }
    char byte = 0;
    CHECK(::read(reader.get(), &byte, 1) == 0);  // nobody holds the other end
  }
  SECTION("nothing at all") {
    Stranger silent(side);
    Stranger hasty(side);
    hasty.leave();
    still_works(side);
    return;
  }
  CHECK(side.broken.empty());
  still_works(side);
}

TEST_CASE("who belongs to another job, or speaks otherwise, is told so", "[shm]") {
  Side side(1);
  Stranger stranger(side);
  SECTION("another job") {
    stranger.hello().job = kJob + 1;
    stranger.say_hello();
    CHECK(verdict_of(side, stranger) == Verdict::kOtherJob);
  }
  SECTION("another version") {
    stranger.hello().version = kVersion + 1;
    stranger.say_hello();
    CHECK(verdict_of(side, stranger) == Verdict::kOtherVersion);
  }
  SECTION("a second connection of the same peer") {
    Stranger first(side);
    first.say_hello();
    CHECK(verdict_of(side, first) == Verdict::kWelcome);
    stranger.say_hello();
    CHECK(verdict_of(side, stranger) == Verdict::kAlreadyConnected);
  }
  CHECK(is_dropped(side, stranger));
  still_works(side);
}

TEST_CASE("a hello whose memory is not as promised is refused", "[shm]") {
  Side side(1);
  Stranger stranger(side);
  const SharedMemory segment = SharedMemory::create(kSegmentBytes, "hostile").value();
  const SharedMemory page = SharedMemory::create(kBellBytes, "hostile").value();
  const SharedMemory heap = SharedMemory::create(StagingHeap::kBytes, "hostile").value();
  const Bell bell = Bell::create().value();
  std::vector<int> fds{segment.fd(), page.fd(), bell.fd(), heap.fd()};
  Fd odd(::memfd_create("odd", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  SECTION("no descriptors") { fds.clear(); }
  SECTION("too few") { fds.pop_back(); }
  SECTION("in another order") { std::swap(fds[0], fds[3]); }
  SECTION("a segment that could be cut off") {
    REQUIRE(::ftruncate(odd.get(), kSegmentBytes) == 0);
    fds[0] = odd.get();
  }
  SECTION("an empty bell page") { fds[1] = odd.get(); }
  SECTION("a device for a heap") {
    odd.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
    fds[3] = odd.get();
  }
  stranger.say_hello(fds);
  CHECK(is_dropped(side, stranger));
  CHECK(side.arrivals.empty());
  still_works(side);
}

TEST_CASE("a peer whose ring is corrupt is a broken channel that says so", "[shm]") {
  Side side(1);
  Stranger stranger(side);
  stranger.say_hello();
  REQUIRE(verdict_of(side, stranger) == Verdict::kWelcome);
  Record* record = stranger.forward.reserve(0);
  record->kind = RecordKind::kEager;
  record->payload = UINT32_MAX - 5;
  record->ready.store(1);
  REQUIRE(drive({&side}, [&] { return !side.broken.empty(); }));
  CHECK(side.broken[0].peer == 66);
  CHECK(side.broken[0].status.code() == StatusCode::kInternal);
  CHECK(side.broken[0].status.message().find("peer 66") != std::string::npos);
  CHECK(side.broken[0].status.message().find("corrupt") != std::string::npos);
  still_works(side);
}

TEST_CASE("records without sense are dropped, and those after them count", "[shm]") {
  Side side(1, FetchMode::kCopy);
  Stranger stranger(side);
  stranger.say_hello();
  REQUIRE(verdict_of(side, stranger) == Verdict::kWelcome);
  const auto write = [&](RecordKind kind, std::span<const std::byte> payload, auto fill) {
    Record* record = stranger.forward.reserve(payload.size());
    REQUIRE(record != nullptr);
    record->kind = kind;
    record->comm = 1;
    record->seq = record->stream = record->chunk = record->offer = record->slot = 0;
    record->digest = 1;
    if (!payload.empty()) std::memcpy(record->data(), payload.data(), payload.size());
    fill(*record);
    stranger.forward.publish(record);
  };
  const Bytes some(500, std::byte{1});
  // Kinds that only the other direction has, or nobody.
  for (const int kind : {0, static_cast<int>(RecordKind::kDone), static_cast<int>(RecordKind::kStage),
                         static_cast<int>(RecordKind::kCredit), 99, 255}) {
    write(static_cast<RecordKind>(kind), some, [](Record& record) { record.offer = 12345; });
  }
  // Segments that nobody asked for.
  write(RecordKind::kSegment, some, [](Record& record) { record.digest = 777; });
  // An offer of memory that is not there: it comes to nothing, and its sender is asked to stage it.
  const OfferBody nowhere{16, 100'000};
  write(RecordKind::kOffer, std::as_bytes(std::span(&nowhere, 1)), [](Record& record) { record.seq = 5; });
  Bytes target(100'000);
  side.connect(66, stranger.address());
  const Op& never = side.recv(id(5), target);
  // The message after all of that.
  write(RecordKind::kEager, some, [](Record& record) { record.seq = 9; });
  Bytes last(some.size());
  const Op& got = side.recv(id(9), last);
  REQUIRE(drive({&side}, [&] { return got.done(); }));
  CHECK(got.ok());
  CHECK(last == some);
  CHECK_FALSE(never.done());
  stranger.leave();
  REQUIRE(drive({&side}, [&] { return never.done() && !side.broken.empty(); }));
  CHECK(never.last.status.code() == StatusCode::kPeerLost);
}

TEST_CASE("messages that no peer in its right mind sends end its channel, and touch no memory", "[shm]") {
  const FetchMode mode = GENERATE(FetchMode::kStaged, FetchMode::kCopy);
  Side side(1, mode);
  Stranger stranger(side);
  stranger.say_hello();
  REQUIRE(verdict_of(side, stranger) == Verdict::kWelcome);
  side.connect(66, stranger.address());
  const auto write = [&](RecordKind kind, std::span<const std::byte> payload, auto fill) {
    Record* record = stranger.forward.reserve(payload.size());
    REQUIRE(record != nullptr);
    record->kind = kind;
    record->comm = record->digest = 1;
    record->seq = 5;
    record->stream = record->chunk = record->offer = 0;
    record->slot = kNoSlot;
    if (!payload.empty()) std::memcpy(record->data(), payload.data(), payload.size());
    fill(*record);
    stranger.forward.publish(record);
  };
  const auto nothing = [](Record&) {};
  const Bytes source = pattern(8 << 20, 1);
  Bytes target(source.size());
  const Op& never = side.recv(id(5), target);
  const OfferBody whole{reinterpret_cast<std::uint64_t>(source.data()), source.size()};
  const OfferBody beyond{StagingHeap::kBytes, source.size(), OfferBody::kHeap};
  const auto offer = [&](const OfferBody& body) {
    write(RecordKind::kOffer, std::as_bytes(std::span(&body, 1)), nothing);
  };
  SECTION("a segment that would lie before the buffer") {
    if (mode != FetchMode::kStaged) return;
    offer(whole);
    write(RecordKind::kSegment, Bytes(8), [](Record& record) { record.comm = ~std::uint64_t{0} - 7; });
  }
  SECTION("an offer outside the heap") { offer(beyond); }
  SECTION("an offer outside the shared memory that it names") {
    const SharedMemory region = SharedMemory::create(1 << 20, "hostile").value();
    const Handover handover{region.size(), 5, 0};
    stranger.say(std::as_bytes(std::span(&handover, 1)), std::array<int, 1>{region.fd()});
    const std::uint32_t slot = GENERATE(0U, kNoSlot);  // and one that it could not take back
    OfferBody body{region.size() - 100, source.size(), 5};
    SECTION("beyond its end") {}
    SECTION("beyond the end of all addresses") { body.address = ~std::uint64_t{0} - 10; }
    SECTION("longer than anything") { body.length = ~std::uint64_t{0}; }
    write(RecordKind::kOffer, std::as_bytes(std::span(&body, 1)), [slot](Record& record) { record.slot = slot; });
  }
  SECTION("an offer of shared memory that it could not take back") {
    const SharedMemory region = SharedMemory::create(source.size(), "hostile").value();
    const Handover handover{region.size(), 5, 0};
    stranger.say(std::as_bytes(std::span(&handover, 1)), std::array<int, 1>{region.fd()});
    offer({0, source.size(), 5});
  }
  SECTION("the same message twice") {
    offer(whole);
    offer(whole);
  }
  SECTION("an eager message in the place of one that is being fetched") {
    offer(whole);
    write(RecordKind::kEager, Bytes(10), nothing);
  }
  REQUIRE(drive({&side}, [&] { return never.done() && !side.broken.empty(); }));
  CHECK(side.broken[0].status.code() == StatusCode::kInternal);
  still_works(side);
}
