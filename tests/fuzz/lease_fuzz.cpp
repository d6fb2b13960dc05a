// Feeds bytes as messages between the lease desks of ranks, over the transport that they use: to a steward, and to a
// rank that listens to one. A message may be refused or believed; what is believed must leave rates that can be used.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "longspan/spi/registry.hpp"
#include "longspan/topology.hpp"
#include "runtime/domain.hpp"
#include "runtime/lease_desk.hpp"
#include "runtime/lease_message.hpp"

namespace {

using namespace longspan;
using namespace longspan::runtime;

constexpr double kBudget = 1e8;
constexpr std::uint64_t kFuzzer = 77;
constexpr std::uint64_t kJob = 7;

/// A way out of the region.
struct FarChannel final : spi::Channel {
  spi::PeerId peer() const noexcept override { return 99; }
  void send(const spi::SendRequest& /*request*/) override {}
  void post_recv(const spi::RecvRequest& /*request*/) override {}
  void release_view(std::uint64_t /*view_token*/) override {}
  void set_rate(double bytes_per_second) override {
    if (!std::isfinite(bytes_per_second) || bytes_per_second < 0 || bytes_per_second > 2 * kBudget) __builtin_trap();
  }
  spi::ChannelStats stats() const override { return {}; }
};

/// A rank of a region of two, of which the other is the fuzzer; one link leads out.
class Rank {
 public:
  explicit Rank(int rank) {
    Cluster cluster;
    cluster.topology.hosts.resize(2);
    cluster.topology.hosts[1].region = 1;
    cluster.topology.regions.resize(2);
    cluster.topology.wan.resize(1);
    cluster.topology.wan[0].to = 1;
    cluster.host_of_rank = {0, 0, 1};
    spi::EndpointOptions fuzzer;
    fuzzer.self = kFuzzer;
    fuzzer.job = kJob;
    for (spi::Transport* transport : spi::all_transports()) {
      if (transport->name() == "shm") endpoint_ = std::move(transport->open(fuzzer)).value();
    }
    DomainOptions options;
    options.self = 10;
    options.job = kJob;
    options.transports = {"shm"};
    domain_ = std::move(Domain::create(options)).value();
    const std::vector<EndpointAddress> itself = domain_->addresses();
    const auto shm =
        std::find_if(itself.begin(), itself.end(), [](const auto& each) { return each.offer.transport == "shm"; });
    std::vector<Peer> peers{{10, "itself", itself}, {kFuzzer, "the fuzzer", {{shm->offer, endpoint_->address()}}}};
    if (rank == 1) std::swap(peers[0], peers[1]);
    peers.push_back(Peer{99, "far away", {}});
    const auto lock = domain_->lock();
    domain_->set_leases(std::make_unique<LeaseDesk>(*domain_, cluster, peers, rank, std::vector<double>{kBudget},
                                                    [this] { return now_; }));
    const LeasedFlow flow{&out_, 0, {kBudget, kBudget}};
    domain_->leases()->begin(std::span(&flow, 1));
    channel_ = *endpoint_->connect(10, shm->address, {}, Clock::now() + std::chrono::seconds(60));
  }

  void hear(std::span<const std::byte> message) {
    bool sent = false;
    channel_->send({{LeaseDesk::kComm, number_++, 0, 0}, 0, message, nullptr, &sent});
    for (int round = 0; round < 20 || (!sent && round < 10'000); ++round) {
      std::array<spi::Completion, 16> completions;
      const std::size_t count = endpoint_->poll(completions);
      for (std::size_t i = 0; i < count; ++i) {
        if (completions[i].kind == spi::CompletionKind::kSend && completions[i].context == &sent) sent = true;
        if (completions[i].kind == spi::CompletionKind::kBroken) __builtin_trap();
        if (completions[i].kind == spi::CompletionKind::kArrival) take(completions[i]);
      }
      auto lock = domain_->lock();
      domain_->progress(lock);
    }
    auto lock = domain_->lock();
    now_ += std::chrono::milliseconds(20);
    domain_->leases()->poll();
    const double share = domain_->leases()->share(0);
    if (!(share > 0 && share <= 1)) __builtin_trap();
    const double leased = domain_->leases()->leased(0);
    if (!std::isfinite(leased) || leased < 0) __builtin_trap();
  }

 private:
  /// What the desk says need not be understood, but taken.
  void take(const spi::Completion& completion) {
    inbox_.resize(std::max(inbox_.size(), completion.bytes));
    channel_->post_recv(
        {completion.id, completion.digest, std::span(inbox_).first(completion.bytes), nullptr, false, true, nullptr});
  }

  TimePoint now_{std::chrono::hours(1)};
  FarChannel out_;
  std::vector<std::byte> inbox_;
  std::unique_ptr<spi::Endpoint> endpoint_;
  std::shared_ptr<Domain> domain_;
  spi::Channel* channel_ = nullptr;
  std::uint32_t number_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Rank ranks[2] = {Rank(0), Rank(1)};  // connecting takes longer than a message
  std::span<const std::byte> left = std::as_bytes(std::span(data, size));
  // Each message: to whom and how long (0: as desks do), its bytes.
  while (!left.empty()) {
    const auto head = std::to_integer<std::size_t>(left[0]);
    left = left.subspan(1);
    std::array<std::byte, sizeof(LeaseMessage) + 32> message{};
    const std::size_t wanted = head < 128 ? sizeof(LeaseMessage) : head % message.size();
    const std::size_t given = std::min(wanted, left.size());
    std::copy_n(left.begin(), given, message.begin());
    ranks[head % 2].hear(std::span(message).first(wanted));
    left = left.subspan(given);
  }
  return 0;
}
