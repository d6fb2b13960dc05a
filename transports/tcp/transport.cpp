#include "longspan/spi/transport.hpp"
#include "tcp/endpoint.hpp"
#include "tcp/path_choice.hpp"

namespace longspan::spi {
namespace {

class TcpTransport final : public Transport {
 public:
  std::string_view name() const override { return "tcp"; }
  TransportCapabilities capabilities() const override {
    TransportCapabilities capabilities;
    capabilities.wide_area = true;
    capabilities.encrypts = true;
    capabilities.max_message = std::size_t{1} << 48;
    return capabilities;
  }
  Result<std::unique_ptr<Endpoint>> open(const EndpointOptions& options) override {
    return tcp::TcpEndpoint::open(options);
  }
  std::optional<PathChoice> choose_path(const EndpointOptions& endpoint, const ChannelOptions& channel) const override {
    return tcp::choose_path(channel, tcp::path_means(endpoint));
  }
};

}  // namespace

Transport& transport_tcp() {
  static TcpTransport transport;  // stateless
  return transport;
}

}  // namespace longspan::spi
