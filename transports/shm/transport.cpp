#include "shm/endpoint.hpp"

namespace longspan::spi {
namespace {

class ShmTransport final : public Transport {
 public:
  std::string_view name() const override { return "shm"; }
  TransportCapabilities capabilities() const override {
    TransportCapabilities can;
    can.host_local = true;
    can.peer_mapped = true;
    return can;
  }
  Result<std::unique_ptr<Endpoint>> open(const EndpointOptions& options) override {
    LONGSPAN_ASSIGN(std::unique_ptr<shm::ShmEndpoint> endpoint, shm::ShmEndpoint::open(options));
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }
};

}  // namespace

Transport& transport_shm();
Transport& transport_shm() {
  static ShmTransport transport;  // stateless
  return transport;
}

}  // namespace longspan::spi
