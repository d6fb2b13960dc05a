// Feeds bytes as notes between ranks about the rates that plans are made from (EpochDesk). A note may be refused or
// believed; what is believed must stay within what other ranks may say.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/epoch_desk.hpp"

namespace {

using namespace longspan;
using namespace longspan::runtime;

constexpr int kRanks = 3;
constexpr std::size_t kLinks = 2;
constexpr std::uint64_t kComm = 7;

struct Host final : EpochDesk::Host {
  explicit Host(int own) : rank(own) {}
  void send(int to, std::string note) override {
    if (to < 0 || to >= kRanks || to == rank || note.empty()) __builtin_trap();
  }
  bool gone(int) const override { return false; }
  std::vector<EpochDesk::Position> positions() const override { return {{kComm, next}}; }
  TimePoint now() const override { return time; }
  void changed() override {}

  int rank;
  std::uint32_t next = 0;
  TimePoint time{std::chrono::seconds(100)};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const int rank = data[0] % kRanks;
  Host host(rank);
  EpochDesk desk(host, rank, kRanks, kLinks);
  std::string_view left(reinterpret_cast<const char*>(data) + 1, size - 1);
  // Each note: who says it, how many bytes it has, its bytes.
  while (left.size() >= 2) {
    const int from = static_cast<std::uint8_t>(left[0]) % kRanks;
    const std::size_t length = std::min<std::size_t>(static_cast<std::uint8_t>(left[1]), left.size() - 2);
    host.time += std::chrono::milliseconds(left.size() * 10);
    if (from != rank) desk.handle(from, left.substr(2, length));
    desk.poll();
    if (host.next < desk.limit(kComm)) ++host.next;
    const std::size_t epoch = desk.epoch_of(kComm, host.next, 0);
    if (epoch > desk.latest() || desk.epoch(epoch).shares.size() != kLinks) __builtin_trap();
    for (const double share : desk.epoch(epoch).shares) {
      if (!(share > 0 && share <= 1)) __builtin_trap();
    }
    left.remove_prefix(2 + length);
  }
  return 0;
}
