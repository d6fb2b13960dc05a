// Connections that break in the middle of transfers: real sockets, and a middlebox that does the breaking.
#include <rapidcheck.h>

#include <algorithm>

#include "support/catch.hpp"
#include "two_ends.hpp"

using namespace longspan;
using namespace longspan::tcp::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Kind = Fault::Kind;

/// Messages of all kinds in both directions: tiny ones, ones larger than a fragment, one larger than the credit, posted
/// before and after they come.
class Exchange {
 public:
  explicit Exchange(TwoEnds& ends, std::size_t largest = std::size_t{3} << 20) : ends_(ends) {
    const std::size_t sizes[] = {0, 1, 100, 5000, 70'000, 600'000, largest, 16'384, 16'385, 300'000, 8};
    for (const std::size_t size : sizes) {
      for (std::uint64_t side = 0; side < 2; ++side) sent_.push_back(pattern(size, sent_.size()));
    }
    for (const Bytes& bytes : sent_) got_.emplace_back(bytes.size());
    for (std::size_t i = 0; i < sent_.size(); i += 3) post(i);
    for (std::size_t i = 0; i < sent_.size(); ++i) {
      ends_.send(i % 2 == 0 ? ends_.a : ends_.b, static_cast<std::uint32_t>(i), sent_[i], 1 + i % 3);
    }
  }
  void post_rest() {
    for (std::size_t i = 0; i < sent_.size(); ++i) {
      if (i % 3 != 0) post(i);
    }
  }
  bool right() const { return got_ == sent_; }

 private:
  void post(std::size_t i) {
    ends_.receive(i % 2 == 0 ? ends_.b : ends_.a, static_cast<std::uint32_t>(i), got_[i], 1 + i % 3);
  }

  TwoEnds& ends_;
  std::vector<Bytes> sent_;
  std::vector<Bytes> got_;
};

/// Exchanges through `faults`; all must arrive, once, with the right bytes.
void heals(const Settings& settings, const std::vector<Fault>& faults, std::size_t strikes) {
  TwoEnds ends(settings);
  for (const Fault& fault : faults) ends.to_b->inject(fault);
  Exchange exchange(ends);
  ends.drive([polls = 0]() mutable { return ++polls > 30; });
  exchange.post_rest();
  REQUIRE(ends.settle());
  CHECK(exchange.right());
  CHECK(ends.exactly_once());
  CHECK(ends.a.broken.empty());
  CHECK(ends.b.broken.empty());
  CHECK(ends.to_b->faults_done() == strikes);
  CHECK(ends.reconnects() >= strikes);
}

}  // namespace

TEST_CASE("a connection that is reset or ends is replaced, wherever in the transfer", "[tcp][healing]") {
  for (const Kind kind : {Kind::kReset, Kind::kEnd}) {
    for (const int lanes : {1, 3}) {
      // Before the HELLO, within it, within a header, within payloads small and large.
      for (const std::size_t at : {0U, 40U, 80U, 100U, 137U, 1000U, 70'000U, 1'000'000U}) {
        CAPTURE(static_cast<int>(kind), lanes, at);
        Settings settings;
        settings.lanes = lanes;
        heals(settings, {{kind, 0, true, at}}, 1);
      }
      for (const std::size_t at : {0U, 30U, 56U, 57U, 112U}) {  // in what comes back: acknowledgements, credit
        CAPTURE(static_cast<int>(kind), lanes, at);
        Settings settings;
        settings.lanes = lanes;
        heals(settings, {{kind, 0, false, at}}, 1);
      }
    }
  }
}

TEST_CASE("the connection that replaces another may break too, and so may all lanes at once", "[tcp][healing]") {
  Settings settings;
  settings.lanes = 2;
  std::vector<Fault> faults;
  for (std::size_t i = 0; i < 9; ++i) {
    // Connection 2 is for small messages and carries little.
    if (i != 2) faults.push_back({i % 2 == 0 ? Kind::kReset : Kind::kEnd, i, true, 90 + 30'000 * i});
  }
  heals(settings, faults, faults.size());
}

TEST_CASE("a break over a long link loses nothing of what was copied to complete sends", "[tcp][healing]") {
  Settings settings;
  settings.tier = Tier::kWan;
  settings.window = std::size_t{2} << 20;
  settings.lanes = 2;
  heals(settings, {{Kind::kReset, 0, true, 400'000}, {Kind::kReset, 1, true, 500'000}, {Kind::kEnd, 3, true, 900'000}},
        3);
}

TEST_CASE("a source may change as soon as its send is complete, whatever happens then", "[tcp][healing]") {
  for (const Tier tier : {Tier::kSite, Tier::kWan}) {
    Settings settings;
    settings.tier = tier;
    settings.window = std::size_t{1} << 20;
    TwoEnds ends(settings);
    ends.to_b->inject({Kind::kReset, 0, true, 2'300'000});
    // Over a long link the second connection is for small messages, and the third is the one that replaces the first.
    ends.to_b->inject({Kind::kReset, tier == Tier::kWan ? 2U : 1U, true, 1'100'000});
    constexpr std::uint32_t kCount = 60;
    std::vector<Bytes> sent;
    std::vector<Bytes> got(kCount, Bytes(100'000));
    std::vector<Operation*> sends;
    for (std::uint32_t i = 0; i < kCount; ++i) {
      sent.push_back(pattern(100'000, i));
      ends.receive(ends.b, i, got[i]);
    }
    for (std::uint32_t i = 0; i < kCount; ++i) sends.push_back(&ends.send(ends.a, i, sent[i]));
    REQUIRE(ends.drive([&] {
      for (std::uint32_t i = 0; i < kCount; ++i) {
        if (sends[i]->completions > 0) std::fill(sent[i].begin(), sent[i].end(), std::byte{0xee});
      }
      return std::all_of(sends.begin(), sends.end(), [](const Operation* one) { return one->completions > 0; });
    }));
    REQUIRE(ends.settle());
    CHECK(ends.to_b->faults_done() == 2);
    for (std::uint32_t i = 0; i < kCount; ++i) CHECK(got[i] == pattern(100'000, i));
  }
}

TEST_CASE("silence is noticed and the connection replaced", "[tcp][healing]") {
  for (const Kind kind : {Kind::kSwallow, Kind::kHalfOpen, Kind::kStall}) {
    for (const bool forward : {true, false}) {
      CAPTURE(static_cast<int>(kind), forward);
      Settings settings;
      settings.lanes = 2;
      heals(settings, {{kind, 0, forward, forward ? 300'000U : 60U}}, 1);
    }
  }
}

TEST_CASE("a message that waits for a lost answer is not forgotten", "[tcp][healing]") {
  // Nothing of a's is unacknowledged: it waits for the clear to send, which the middlebox has swallowed.
  Settings settings;
  settings.credit = 1000;
  TwoEnds ends(settings);
  const Bytes first = pattern(5000, 1);
  const Bytes second = pattern(600'000, 2);
  Bytes got_first(first.size());
  Bytes got_second(second.size());
  ends.receive(ends.b, 1, got_first);
  ends.send(ends.a, 1, first);
  REQUIRE(ends.settle());
  ends.send(ends.a, 2, second);
  REQUIRE(ends.drive([&] { return ends.a.channel->stats().messages_sent == 1; }));
  ends.drive([polls = 0]() mutable { return ++polls > 50; });
  ends.to_b->inject({Kind::kSwallow, 0, false, ends.to_b->bytes(0, false)});
  ends.receive(ends.b, 2, got_second);
  REQUIRE(ends.settle());
  CHECK(got_second == second);
  CHECK(ends.reconnects() == 1);
}

TEST_CASE("a silence of five seconds on every connection, new ones too, heals when it ends", "[tcp][healing]") {
  Settings settings;
  settings.lanes = 2;
  TwoEnds ends(settings);
  for (Proxy* proxy : {ends.to_a.get(), ends.to_b.get()}) {
    proxy->inject({Kind::kSwallow, 0, true, 200'000});
    proxy->inject({Kind::kSwallow, 1, true, 100'000});
    proxy->swallow_new(false);
  }
  Exchange exchange(ends);
  exchange.post_rest();
  REQUIRE(ends.drive([&] { return ends.to_a->faults_done() + ends.to_b->faults_done() == 4; }));
  for (Proxy* proxy : {ends.to_a.get(), ends.to_b.get()}) proxy->swallow_new(true);
  const TimePoint over = Clock::now() + seconds(5);
  ends.drive([&] { return Clock::now() >= over; });
  CHECK_FALSE(exchange.right());
  for (Proxy* proxy : {ends.to_a.get(), ends.to_b.get()}) proxy->swallow_new(false);
  REQUIRE(ends.settle());
  CHECK(exchange.right());
  CHECK(ends.exactly_once());
}

TEST_CASE("past the deadline the error names the peer, the way and what was tried", "[tcp][healing]") {
  for (const Kind kind : {Kind::kReset, Kind::kSwallow}) {
    Settings settings;
    settings.patience = milliseconds(2500);
    TwoEnds ends(settings);
    ends.to_b->inject({kind, 0, true, 300'000});
    ends.to_b->swallow_new(false);
    Exchange exchange(ends);
    exchange.post_rest();
    REQUIRE(ends.drive([&] { return ends.to_b->faults_done() == 1; }));
    ends.to_b->swallow_new(true);
    ends.to_a->swallow_new(true);  // or the other side would dial, and heal it
    const TimePoint struck = Clock::now();
    REQUIRE(ends.drive([&] { return !ends.a.broken.empty(); }));
    CHECK(Clock::now() - struck < settings.patience + seconds(1));
    const std::string text = ends.a.broken.front().status.to_string();
    INFO(text);
    CHECK(ends.a.broken.front().status.code() == StatusCode::kPeerLost);
    CHECK(text.find("peer b") != std::string::npos);
    CHECK(text.find(ends.to_b->address()) != std::string::npos);
    CHECK(text.find("attempts") != std::string::npos);
    // The other side is told when it is reached again, or comes to its own deadline.
    ends.to_b->swallow_new(false);
    ends.to_a->swallow_new(false);
    REQUIRE(ends.drive([&] { return !ends.b.broken.empty(); }));
    CHECK(ends.settle());
  }
}

TEST_CASE("where nobody listens any more the peer is lost at once", "[tcp][healing]") {
  TwoEnds ends(Settings{});
  ends.to_b->inject({Kind::kStall, 0, true, 100'000});
  Exchange exchange(ends);
  REQUIRE(ends.drive([&] { return ends.to_b->faults_done() == 1; }));
  const TimePoint before = Clock::now();
  ends.to_b->vanish();
  REQUIRE(ends.drive([&] { return !ends.a.broken.empty(); }));
  CHECK(Clock::now() - before < seconds(10));  // half of what is waited for a peer that may come back
  CHECK(std::string(ends.a.broken.front().status.message()).find("nobody listens") != std::string::npos);
}

TEST_CASE("closing waits for what a broken connection still owes", "[tcp][healing]") {
  TwoEnds ends(Settings{});
  const Bytes data = pattern(10'000, 1);
  std::vector<Bytes> got(20, Bytes(data.size()));
  for (std::uint32_t i = 0; i < got.size(); ++i) {
    ends.receive(ends.b, i, got[i]);
    ends.send(ends.a, i, data);
  }
  REQUIRE(ends.settle());
  const Bytes last = pattern(9000, 2);
  Bytes got_last(last.size());
  Operation& received = ends.receive(ends.b, 100, got_last);
  Operation& sent = ends.send(ends.a, 100, last);
  ends.to_b->inject({Kind::kReset, 0, true, ends.to_b->bytes(0, true) + 3000});
  REQUIRE(ends.drive([&] { return ends.to_b->faults_done() == 1 && sent.completions > 0; }));
  CHECK(ends.settle());
  CHECK(received.ok());
  CHECK(got_last == last);
  ends.a.endpoint->close(Clock::now() + seconds(5));
  REQUIRE(ends.drive([&] { return !ends.b.closed.empty() || !ends.b.broken.empty(); }));
  CHECK(ends.b.broken.empty());
}

TEST_CASE("whatever breaks wherever, everything arrives once and with the right bytes", "[tcp][healing]") {
  CHECK(rc::check("healing", [] {
    Settings settings;
    settings.lanes = *rc::gen::inRange(1, 4);
    settings.tier = *rc::gen::element(Tier::kSite, Tier::kWan);
    settings.credit = *rc::gen::element<std::size_t>(10'000, 1'000'000);
    if (LONGSPAN_TLS) settings.key = *rc::gen::element<std::string>("", "a key of both sides");
    settings.encryption = *rc::gen::element(Encryption::kNone, Encryption::kAll);
    const auto faults = *rc::gen::container<std::vector<Fault>>(
        rc::gen::build<Fault>(rc::gen::set(&Fault::kind, rc::gen::element(Kind::kReset, Kind::kEnd)),
                              rc::gen::set(&Fault::connection, rc::gen::inRange<std::size_t>(0, 8)),
                              rc::gen::set(&Fault::forward, rc::gen::arbitrary<bool>()),
                              rc::gen::set(&Fault::at, rc::gen::oneOf(rc::gen::inRange<std::size_t>(0, 500),
                                                                      rc::gen::inRange<std::size_t>(0, 1'500'000)))));
    TwoEnds ends(settings);
    for (std::size_t i = 0; i < faults.size(); ++i) (i % 2 == 0 ? ends.to_b : ends.to_a)->inject(faults[i]);
    Exchange exchange(ends, *rc::gen::element<std::size_t>(40'000, 1'200'000));
    const int late = *rc::gen::inRange(0, 100);
    ends.drive([&, polls = 0]() mutable { return ++polls > late; });
    exchange.post_rest();
    RC_ASSERT(ends.settle());
    RC_ASSERT(exchange.right());
    RC_ASSERT(ends.exactly_once());
    RC_ASSERT(ends.a.broken.empty());
    RC_ASSERT(ends.b.broken.empty());
  }));
}
