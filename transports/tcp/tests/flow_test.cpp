// Credits, announcements and matching without sockets: an outbox and an inbox joined by lanes that deliver in order
// each, but interleaved in any way.
#include <rapidcheck.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include "support/catch.hpp"
#include "base/containers.hpp"
#include "tcp/inbox.hpp"
#include "tcp/outbox.hpp"

using namespace longspan;
using namespace longspan::tcp;

namespace {

struct Item {
  std::uint32_t bytes = 0;
  std::uint64_t comm = 0;
  std::uint32_t post_at = 0;  // step at which its receive is posted
};

/// One direction between two peers.
class Wire {
 public:
  Wire(std::uint64_t credit, std::size_t lanes, unsigned seed)
      : random_(seed),
        lanes_(lanes),
        outbox_(2, static_cast<std::int64_t>(credit), sender_.completions),
        inbox_(1, receiver_) {
    inbox_.set_credit_bytes(credit);
  }

  Outbox& outbox() { return outbox_; }
  Inbox& inbox() { return inbox_; }
  Queue<spi::Completion>& sent() { return sender_.completions; }
  Queue<spi::Completion>& received() { return receiver_.completions; }

  /// One random thing happens: a lane takes a frame, a lane delivers one, a reply comes back. False: nothing could.
  bool step(std::size_t fragment) {
    const std::size_t choices = 2 * lanes_.size() + 2;
    const std::size_t first = random_() % choices;
    for (std::size_t i = 0; i < choices; ++i) {
      const std::size_t choice = (first + i) % choices;
      if (choice < lanes_.size() ? pull(lanes_[choice], fragment)
          : choice < 2 * lanes_.size() ? deliver(lanes_[choice - lanes_.size()])
          : choice == 2 * lanes_.size() ? take_reply()
                                        : give_reply()) {
        return true;
      }
    }
    return false;
  }

 private:
  struct Packet {
    wire::Frame frame;
    const std::byte* payload = nullptr;
    SendMessage* message = nullptr;  // told when it has arrived
  };

  bool pull(std::deque<Packet>& lane, std::size_t limit) {
    if (lane.size() > 3) return false;
    Packet packet;
    Fragment fragment;
    if (!outbox_.next_announcement(packet.frame)) {
      if (!outbox_.next(limit, fragment)) {
        return outbox_.next_announcement(packet.frame) ? (lane.push_back(packet), true) : false;
      }
      const SendMessage& message = *fragment.message;
      packet.frame.flags = static_cast<std::uint8_t>((fragment.counted ? wire::kCounted : 0) |
                                                     (message.announced ? wire::kAnnounced : 0));
      packet.frame.payload_bytes = static_cast<std::uint32_t>(fragment.bytes);
      packet.frame.id = message.id;
      packet.frame.digest = message.digest;
      packet.frame.message_bytes = message.bytes;
      packet.frame.offset = fragment.offset;
      packet.payload = message.data + fragment.offset;
      outbox_.written(*fragment.message);
      packet.message = fragment.message;
    }
    lane.push_back(packet);
    return true;
  }

  bool deliver(std::deque<Packet>& lane) {
    if (lane.empty()) return false;
    const Packet packet = lane.front();
    lane.pop_front();
    if (packet.frame.type == wire::FrameType::kRts) {
      RC_ASSERT(inbox_.on_announcement(packet.frame).ok());
      return true;
    }
    Landing landing;
    RC_ASSERT(inbox_.begin(packet.frame, landing).ok());
    if (landing.target != nullptr) std::copy_n(packet.payload, packet.frame.payload_bytes, landing.target);
    inbox_.end(landing);
    outbox_.let_go(*packet.message);
    return true;
  }

  bool take_reply() {
    wire::Frame reply;
    if (!inbox_.next_reply(reply)) return false;
    replies_.push_back(reply);
    return true;
  }

  bool give_reply() {
    if (replies_.empty()) return false;
    const wire::Frame reply = replies_.front();
    replies_.pop_front();
    if (reply.type == wire::FrameType::kCts) outbox_.on_clear_to_send(reply.id);
    if (reply.type == wire::FrameType::kCredit) outbox_.on_credit(reply.id.comm, reply.message_bytes);
    return true;
  }

  std::mt19937 random_;
  std::vector<std::deque<Packet>> lanes_;
  std::deque<wire::Frame> replies_;
  Shared sender_;
  Shared receiver_;
  Outbox outbox_;
  Inbox inbox_;
};

std::vector<std::byte> bytes_of(const Item& item, std::uint32_t number) {
  std::vector<std::byte> bytes(item.bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 + number * 7);
  return bytes;
}

}  // namespace

TEST_CASE("whatever the order of lanes and receives, every message arrives once and nothing stops", "[tcp]") {
  CHECK(rc::check("delivery", [] {
    const auto credit = *rc::gen::element<std::uint64_t>(1, 500, 4096, 100'000);
    const auto fragment = *rc::gen::element<std::size_t>(7, 512, 4096);
    const auto items = *rc::gen::container<std::vector<Item>>(rc::gen::build<Item>(
        rc::gen::set(&Item::bytes, rc::gen::element<std::uint32_t>(0, 1, 6, 100, 3000, 20'000)),
        rc::gen::set(&Item::comm, rc::gen::inRange<std::uint64_t>(1, 4)),
        rc::gen::set(&Item::post_at, rc::gen::inRange<std::uint32_t>(0, 400))));
    Wire joint(credit, *rc::gen::inRange<std::size_t>(1, 5), *rc::gen::arbitrary<unsigned>());
    std::vector<std::vector<std::byte>> sent;
    std::vector<std::vector<std::byte>> got;
    std::vector<int> sends(items.size(), 0);
    std::vector<int> receives(items.size(), 0);
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      sent.push_back(bytes_of(items[i], i));
      got.emplace_back(items[i].bytes);
      joint.outbox().push({{items[i].comm, i, 0, 0}, 5, sent[i], nullptr, &sends[i]});
    }
    std::map<std::uint32_t, int> arrivals;
    std::vector<bool> posted(items.size(), false);
    bool moving = true;
    for (std::uint32_t step = 0; moving || step <= 400; ++step) {
      for (std::uint32_t i = 0; i < items.size(); ++i) {
        if (posted[i] || items[i].post_at > step) continue;
        posted[i] = true;
        joint.inbox().post({{items[i].comm, i, 0, 0}, 5, got[i], nullptr, false, false, &receives[i]});
      }
      moving = joint.step(fragment);
      while (!joint.sent().empty()) ++*static_cast<int*>(joint.sent().pop_front().context);
      while (!joint.received().empty()) {
        const spi::Completion completion = joint.received().pop_front();
        RC_ASSERT(completion.status.ok());
        if (completion.kind == spi::CompletionKind::kArrival) {
          ++arrivals[completion.id.seq];
        } else {
          ++*static_cast<int*>(completion.context);
        }
      }
    }
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      RC_ASSERT(sends[i] == 1);
      RC_ASSERT(receives[i] == 1);
      RC_ASSERT(got[i] == sent[i]);
    }
    for (const auto& [seq, count] : arrivals) RC_ASSERT(count == 1);
    RC_ASSERT(joint.outbox().drained());
    RC_ASSERT(joint.inbox().open_messages() == 0u);
  }));
}

TEST_CASE("no more than the credit is sent ahead of receives", "[tcp]") {
  Queue<spi::Completion> completions;
  Outbox outbox(1, 10'000, completions);
  const std::vector<std::byte> data(1'000'000);
  int context = 0;
  outbox.push({{1, 1, 0, 0}, 0, data, nullptr, &context});
  outbox.push({{2, 1, 0, 0}, 0, data, nullptr, &context});
  std::map<std::uint64_t, std::size_t> taken;
  Fragment fragment;
  while (outbox.next(1000, fragment)) taken[fragment.message->id.comm] += fragment.bytes;
  for (const std::uint64_t comm : {1U, 2U}) {
    CHECK(taken[comm] <= 11'000);
    CHECK(taken[comm] >= 8'000);
  }
  wire::Frame announcement;
  REQUIRE(outbox.next_announcement(announcement));
  REQUIRE(outbox.next_announcement(announcement));
  CHECK_FALSE(outbox.next_announcement(announcement));
  outbox.on_credit(1, 3000);
  CHECK(outbox.next(100'000, fragment));
  CHECK(fragment.message->id.comm == 1);
  CHECK_FALSE(outbox.next(100'000, fragment));
  outbox.on_clear_to_send({2, 1, 0, 0});
  std::size_t rest = 0;
  while (outbox.next(100'000, fragment)) rest += fragment.bytes;
  CHECK(rest == data.size() - taken[2]);
}

TEST_CASE("small messages pass large ones, also when those have used up the credit", "[tcp]") {
  Queue<spi::Completion> completions;
  Outbox outbox(1, 1'000'000, completions);
  const std::vector<std::byte> data(10'000'000);
  for (std::uint32_t i = 0; i < 3; ++i) outbox.push({{1, i, 0, 0}, 0, data, nullptr, nullptr});
  Fragment fragment;
  std::size_t taken = 0;
  while (outbox.next(100'000, fragment, Pull::kLarge)) taken += fragment.bytes;
  CHECK(taken <= 1'100'000);
  for (std::uint32_t i = 10; i < 20; ++i) {
    outbox.push({{1, i, 0, 0}, 0, std::span(data).first(4096), nullptr, nullptr});
    CHECK(outbox.has_urgent());
    CHECK_FALSE(outbox.next(100'000, fragment, Pull::kLarge));
    REQUIRE(outbox.next(100'000, fragment, i % 2 == 0 ? Pull::kSmall : Pull::kAny));
    CHECK(fragment.message->id.seq == i);
  }
  CHECK_FALSE(outbox.next(100'000, fragment, Pull::kSmall));
}

TEST_CASE("what a peer returns too much adds no credit", "[tcp]") {
  Queue<spi::Completion> completions;
  Outbox outbox(1, 1000, completions);
  const std::vector<std::byte> data(100'000);
  outbox.push({{1, 1, 0, 0}, 0, data, nullptr, nullptr});
  outbox.on_credit(1, ~std::uint64_t{0});
  Fragment fragment;
  std::size_t taken = 0;
  while (outbox.next(100, fragment)) taken += fragment.bytes;
  CHECK(taken <= 1100);
}

TEST_CASE("objects are found by id after any history of insertions and removals", "[tcp]") {
  struct Named {
    spi::MessageId id;
  };
  CHECK(rc::check("map", [] {
    IdMap<Named> map;
    std::vector<std::unique_ptr<Named>> objects;
    for (const std::uint32_t key : *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange(0u, 60u))) {
      const spi::MessageId id{key % 3, key, key % 5, 0};
      const auto found = std::find_if(objects.begin(), objects.end(), [&](const auto& one) { return one->id == id; });
      RC_ASSERT((map.find(id) != nullptr) == (found != objects.end()));
      if (found != objects.end()) {
        map.erase(found->get());
        objects.erase(found);
      } else {
        objects.push_back(std::make_unique<Named>(Named{id}));
        map.insert(objects.back().get());
      }
      for (const auto& one : objects) RC_ASSERT(map.find(one->id) == one.get());
      RC_ASSERT(map.size() == objects.size());
    }
  }));
}
