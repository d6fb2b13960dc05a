#include "longspan/spi/transport.hpp"
#include "verbs/endpoint.hpp"

namespace longspan::spi {
namespace {

class VerbsTransport final : public Transport {
 public:
  std::string_view name() const override { return "verbs"; }
  TransportCapabilities capabilities() const override {
    TransportCapabilities capabilities;
    capabilities.max_message = std::size_t{1} << 48;
    return capabilities;
  }
  Result<std::unique_ptr<Endpoint>> open(const EndpointOptions& options) override {
    return verbs::VerbsEndpoint::open(options);
  }
};

}  // namespace

Transport& transport_verbs();
Transport& transport_verbs() {
  static VerbsTransport transport;  // stateless
  return transport;
}

}  // namespace longspan::spi
