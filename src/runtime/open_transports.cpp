#include "runtime/open_transports.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "base/nearest.hpp"
#include "longspan/spi/registry.hpp"
#include "security/secret.hpp"

namespace longspan::runtime {
namespace {

using planner::EndpointOffer;

constexpr std::size_t kMaxReason = 160;  // every rank gets every rank's reasons
constexpr std::size_t kMaxFabric = 64;
constexpr double kMaxRate = 1e15;

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Status check_names(std::span<spi::Transport* const> transports, const std::vector<std::string>& named) {
  std::vector<std::string_view> known;
  for (const spi::Transport* transport : transports) known.push_back(transport->name());
  for (const std::string& name : named) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("LONGSPAN_TRANSPORTS names '{}', which this build does not have{}; it has: {}", name,
                              did_you_mean(name, known), fmt::join(known, ", ")));
  }
  return {};
}

EndpointOffer offer_of(const spi::Transport& transport, bool named) {
  EndpointOffer offer;
  offer.transport = std::string(transport.name());
  offer.named = named;
  return offer;
}

/// What the endpoint says of itself, as the bootstrap carries it: both ends must compute with the same figures.
void describe(EndpointOffer& offer, const spi::Transport& transport, const spi::Endpoint& endpoint,
              const spi::EndpointOptions& options) {
  const spi::TransportCapabilities can = transport.capabilities();
  offer.traits = endpoint.traits();
  if (can.wide_area) offer.traits.reach = Tier::kWan;
  if (can.host_local) offer.limit = offer.traits.reach = Tier::kHost;
  else if (!options.key.empty() && !can.encrypts && options.encryption != Encryption::kNone) {
    offer.limit = Tier::kRegion;
  }
  double& rate = offer.traits.rate_bytes_per_second;
  rate = rate > 0 ? std::floor(std::min(rate, kMaxRate)) : 0;  // NaN too
  offer.traits.latency = std::max(offer.traits.latency, std::chrono::nanoseconds(0));
  offer.traits.fabric.resize(std::min(offer.traits.fabric.size(), kMaxFabric));
  offer.traits.detail.resize(std::min(offer.traits.detail.size(), kMaxReason));
}

/// Why policy rules it out before it is opened; empty: it does not.
std::string forbidden(const spi::TransportCapabilities& can, const spi::EndpointOptions& options) {
  if (options.key.empty() || options.encryption != Encryption::kAll || can.encrypts || can.host_local) return {};
  return "it does not encrypt, and LONGSPAN_ENCRYPT=all asks for it between hosts";
}

/// Fills `open`; an error where `named` and not usable, or where it fails for another reason than this host.
Status open_one(OpenTransport& open, spi::EndpointOptions options, bool is_named) {
  options.named = is_named;
  const std::string name = open.offer.transport;
  const auto cannot = [&](std::string reason) -> Status {
    if (open.offer.named) {
      return Status(StatusCode::kUnsupported,
                    fmt::format("LONGSPAN_TRANSPORTS names '{}', which this host cannot use: {}", name, reason));
    }
    log::debug("transport {} is not used on this host: {}", name, reason);
    open.offer.unusable = std::move(reason);
    open.offer.unusable.resize(std::min(open.offer.unusable.size(), kMaxReason));
    return {};
  };
  if (std::string reason = forbidden(open.transport->capabilities(), options); !reason.empty()) {
    return cannot(std::move(reason));
  }
  auto endpoint = open.transport->open(options);
  if (!endpoint.ok()) {
    if (endpoint.status().code() == StatusCode::kUnsupported) return cannot(std::string(endpoint.status().message()));
    return endpoint.status().with_context("transport " + name);
  }
  open.endpoint = std::move(*endpoint);
  describe(open.offer, *open.transport, *open.endpoint, options);
  return {};
}

}  // namespace

Result<std::vector<OpenTransport>> open_transports(std::span<spi::Transport* const> transports,
                                                   const std::vector<std::string>& named,
                                                   const spi::EndpointOptions& options) {
  LONGSPAN_TRY(check_names(transports, named));
  std::vector<OpenTransport> all;
  for (spi::Transport* transport : transports) {
    const bool is_named = contains(named, transport->name());
    if (transport->capabilities().test_only && !is_named) continue;
    OpenTransport open;
    open.transport = transport;
    open.offer = offer_of(*transport, is_named);
    if (!named.empty() && !is_named) open.offer.unusable = "not in LONGSPAN_TRANSPORTS";
    else LONGSPAN_TRY(open_one(open, options, is_named));
    all.push_back(std::move(open));
  }
  return all;
}

Result<std::vector<EndpointOffer>> survey_transports(const Options& given) {
  const std::vector<std::string> named = given.transports.value_or(std::vector<std::string>());
  LONGSPAN_TRY(check_names(spi::all_transports(), named));
  spi::EndpointOptions options;
  options.self = 1;
  options.job = 1;
  options.rdma = given.rdma.value_or("");
  options.nics = given.nics.value_or(std::vector<std::string>());
  options.encryption = given.encryption.value_or(Encryption::kWan);
  LONGSPAN_ASSIGN(options.key, security::load_secret(given.key, given.key_file));
  std::vector<EndpointOffer> offers;
  for (spi::Transport* transport : spi::all_transports()) {
    const bool is_named = contains(named, transport->name());
    if (transport->capabilities().test_only && !is_named) continue;
    OpenTransport open;
    open.transport = transport;
    open.offer = offer_of(*transport, false);  // so that a refusal comes as a reason
    if (!named.empty() && !is_named) {
      open.offer.unusable = "not in LONGSPAN_TRANSPORTS";
    } else if (const Status opened = open_one(open, options, is_named); !opened.ok()) {
      open.offer.unusable = std::string(opened.message());
    }
    if (open.endpoint != nullptr) open.endpoint->close(Clock::now());
    open.offer.named = is_named;
    offers.push_back(std::move(open.offer));
  }
  return offers;
}

}  // namespace longspan::runtime
