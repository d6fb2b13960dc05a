#include <fmt/format.h>
#include <cerrno>
#include <map>

#include "sim/core.hpp"
#include "sim/fabric.hpp"

namespace longspan::sim {
namespace {

class SimChannel final : public spi::Channel {
 public:
  SimChannel(Core& core, Port& port, spi::PeerId peer) : core_(core), port_(port), peer_(peer) {}
  spi::PeerId peer() const noexcept override { return peer_; }
  void send(const spi::SendRequest& request) override { core_.send(port_, peer_, request); }
  void post_recv(const spi::RecvRequest& request) override { core_.post(port_, peer_, request); }
  void release_view(std::uint64_t /*view_token*/) override {}
  void set_rate(double bytes_per_second) override { core_.set_rate(port_, peer_, bytes_per_second); }
  spi::ChannelStats stats() const override { return core_.stats(port_, peer_); }

 private:
  Core& core_;
  Port& port_;
  spi::PeerId peer_;
};

class PlainRegion final : public spi::MemoryRegion {};

class SimEndpoint final : public spi::Endpoint {
 public:
  explicit SimEndpoint(const spi::EndpointOptions& options) : core_(Core::of_job(options.job)) {
    port_.self = options.self;
  }
  ~SimEndpoint() override { core_->leave(port_, false); }

  Status enter() {
    LONGSPAN_ASSIGN(port_.wake, Timer::create());
    return core_->enter(port_);
  }

  std::string address() const override { return prefix() + std::to_string(port_.self); }
  Result<spi::Channel*> connect(spi::PeerId peer, std::string_view peer_address, const spi::ChannelOptions& options,
                                TimePoint /*deadline*/) override {
    if (peer_address != prefix() + std::to_string(peer)) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("'{}' is no address of peer {} in job {:x} of the sim transport", peer_address, peer,
                                core_->job()));
    }
    auto& channel = channels_[peer];
    if (channel == nullptr) {
      core_->connect(port_, peer, options);
      channel = std::make_unique<SimChannel>(*core_, port_, peer);
    }
    return channel.get();
  }
  std::size_t poll(std::span<spi::Completion> completions) override { return core_->poll(port_, completions); }
  int wait_fd() const noexcept override { return port_.wake.fd(); }
  bool arm() override { return core_->arm(port_); }
  Result<std::unique_ptr<spi::MemoryRegion>> register_memory(std::span<std::byte> /*memory*/) override {
    return std::unique_ptr<spi::MemoryRegion>(std::make_unique<PlainRegion>());
  }
  void forget(std::uint64_t comm) override { core_->forget(port_, comm); }
  void close(TimePoint /*deadline*/) override { core_->leave(port_, true); }

 private:
  std::string prefix() const { return fmt::format("sim:{:x}:", core_->job()); }

  std::shared_ptr<Core> core_;  // shared with the other endpoints of the job, and with tests
  Port port_;
  std::map<spi::PeerId, std::unique_ptr<SimChannel>> channels_;
};

class SimTransport final : public spi::Transport {
 public:
  std::string_view name() const override { return "sim"; }
  spi::TransportCapabilities capabilities() const override {
    spi::TransportCapabilities capabilities;
    capabilities.one_process = true;
    capabilities.test_only = true;
    capabilities.wide_area = true;
    return capabilities;
  }
  Result<std::unique_ptr<spi::Endpoint>> open(const spi::EndpointOptions& options) override {
    auto endpoint = std::make_unique<SimEndpoint>(options);
    LONGSPAN_TRY(endpoint->enter());
    return std::unique_ptr<spi::Endpoint>(std::move(endpoint));
  }
};

}  // namespace

Fabric Fabric::of_job(std::uint64_t job) { return Fabric(Core::of_job(job)); }
void Fabric::set_default_link(const Link& link) const { core_->set_default_link(link); }
void Fabric::set_link(spi::PeerId from, spi::PeerId to, const Link& link) const { core_->set_link(from, to, link); }
LinkUse Fabric::use(spi::PeerId from, spi::PeerId to) const { return core_->use(from, to); }
std::chrono::nanoseconds Fabric::now() const { return core_->now(); }

}  // namespace longspan::sim

namespace longspan::spi {

Transport& transport_sim() {
  static sim::SimTransport transport;  // stateless
  return transport;
}

}  // namespace longspan::spi
