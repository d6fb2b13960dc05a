#include <algorithm>

#include "cuda_ipc/endpoint.hpp"
#include "longspan/spi/registry.hpp"

namespace longspan::spi {
namespace {

/// What joins ranks of one host already, for all that is not device memory.
Transport* host_memory() {
  const auto all = all_transports();
  const auto found = std::find_if(all.begin(), all.end(), [](const Transport* each) {
    const TransportCapabilities can = each->capabilities();
    return can.host_local && can.peer_mapped && !can.device_memory && !can.test_only;
  });
  return found == all.end() ? nullptr : *found;
}

class CudaIpcTransport final : public Transport {
 public:
  std::string_view name() const override { return "cuda_ipc"; }
  TransportCapabilities capabilities() const override {
    TransportCapabilities can;
    can.host_local = true;
    can.peer_mapped = true;
    can.device_memory = true;
    return can;
  }
  Result<std::unique_ptr<Endpoint>> open(const EndpointOptions& options) override {
    if (device::cuda::Driver::in_process() == nullptr) {
      return Status(StatusCode::kUnsupported,
                    "this process has no CUDA driver: it serves programs that have initialised CUDA before they join");
    }
    if (const auto driver = device::cuda::Driver::usable(); !driver.ok()) return driver.status();
    Transport* const below = host_memory();
    if (below == nullptr) return Status(StatusCode::kUnsupported, "this build has no transport of the host's memory");
    LONGSPAN_ASSIGN(std::unique_ptr<Endpoint> endpoint, below->open(options));
    LONGSPAN_ASSIGN(std::unique_ptr<cuda_ipc::IpcEndpoint> made, cuda_ipc::IpcEndpoint::open(std::move(endpoint)));
    return std::unique_ptr<Endpoint>(std::move(made));
  }
};

}  // namespace

Transport& transport_cuda_ipc();
Transport& transport_cuda_ipc() {
  static CudaIpcTransport transport;  // stateless
  return transport;
}

}  // namespace longspan::spi
