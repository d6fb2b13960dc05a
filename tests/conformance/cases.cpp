#include "cases.hpp"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "base/env.hpp"
#include "longspan/spi/registry.hpp"

namespace longspan::conformance {
namespace {

/// A transport in a job that has a key and encrypts everything.
class Sealed final : public spi::Transport {
 public:
  explicit Sealed(spi::Transport& transport)
      : transport_(transport), name_(fmt::format("{} (sealed)", transport.name())) {}
  std::string_view name() const override { return name_; }
  spi::TransportCapabilities capabilities() const override { return transport_.capabilities(); }
  Result<std::unique_ptr<spi::Endpoint>> open(const spi::EndpointOptions& options) override {
    spi::EndpointOptions sealed = options;
    sealed.key = "the key of the conformance suite";
    sealed.encryption = Encryption::kAll;
    return transport_.open(sealed);
  }

 private:
  spi::Transport& transport_;
  std::string name_;
};

/// LONGSPAN_TRANSPORTS may name those that are to be tested.
bool wanted(const spi::Transport& transport) {
  const std::string names = env::get("LONGSPAN_TRANSPORTS").value_or("");
  return names.empty() || ("," + names + ",").find("," + std::string(transport.name()) + ",") != std::string::npos;
}

/// Said once for each: what this machine cannot use is not tested here.
bool usable(spi::Transport& transport) {
  if (!wanted(transport)) return false;
  spi::EndpointOptions options;
  options.bind_address = "127.0.0.1";
  const auto endpoint = transport.open(options);
  if (endpoint.ok() || endpoint.status().code() != StatusCode::kUnsupported) return true;
  fmt::print("conformance: {} skips \"everything\": {}\n", transport.name(), endpoint.status().message());
  return false;
}

/// All of the registry that this machine can use, and those that may leave a host once more under a key.
const std::vector<spi::Transport*>& variants() {
  static std::vector<std::unique_ptr<Sealed>> sealed;
  static const std::vector<spi::Transport*> all = [] {
    std::vector<spi::Transport*> list;
    for (spi::Transport* transport : spi::all_transports()) {
      if (usable(*transport)) list.push_back(transport);
    }
    for (spi::Transport* transport : spi::all_transports()) {
      if (!LONGSPAN_TLS || !transport->capabilities().wide_area || !wanted(*transport)) continue;
      sealed.push_back(std::make_unique<Sealed>(*transport));
      list.push_back(sealed.back().get());
    }
    return list;
  }();
  return all;
}

}  // namespace

spi::Transport& each_transport() {
  const auto& all = variants();
  const auto index = GENERATE_REF(range(std::size_t{0}, all.size()));
  return *all[index];
}

void skip(const spi::Transport& transport, std::string_view why) {
  fmt::print("conformance: {} skips \"{}\": {}\n", transport.name(),
             Catch::getResultCapture().getCurrentTestName(), why);
  SUCCEED("skipped");
}

}  // namespace longspan::conformance
