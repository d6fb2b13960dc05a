#include <atomic>

#include "ucx/endpoint.hpp"

namespace longspan::spi {
namespace {

class UcxTransport final : public Transport {
 public:
  std::string_view name() const override { return "ucx"; }
  TransportCapabilities capabilities() const override { return {}; }
  Result<std::unique_ptr<Endpoint>> open(const EndpointOptions& options) override {
    LONGSPAN_ASSIGN(std::unique_ptr<ucx::UcxEndpoint> endpoint, ucx::UcxEndpoint::open(options));
    return std::unique_ptr<Endpoint>(std::move(endpoint));
  }
};

}  // namespace

Transport& transport_ucx();
Transport& transport_ucx() {
  static UcxTransport transport;  // stateless
  return transport;
}

}  // namespace longspan::spi
