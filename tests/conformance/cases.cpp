#include "cases.hpp"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "longspan/spi/registry.hpp"

namespace longspan::conformance {
namespace {

/// A transport in a job that has a key and encrypts everything.
class Sealed final : public spi::Transport {
 public:
  explicit Sealed(spi::Transport& transport) : transport_(transport), name_(fmt::format("{} (sealed)", transport.name())) {}
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

/// All of the registry, and those that may leave a host once more under a key.
const std::vector<spi::Transport*>& variants() {
  static std::vector<std::unique_ptr<Sealed>> sealed;
  static const std::vector<spi::Transport*> all = [] {
    const auto built = spi::all_transports();
    std::vector<spi::Transport*> list(built.begin(), built.end());
    for (spi::Transport* transport : built) {
      if (!LONGSPAN_TLS || !transport->capabilities().wide_area) continue;
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
