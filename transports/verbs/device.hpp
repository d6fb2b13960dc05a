#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "longspan/spi/transport.hpp"

namespace longspan::verbs {

/// Owns a handle of libibverbs.
template <class T, int (*Destroy)(T*)>
struct Destroyer {
  void operator()(T* handle) const noexcept { static_cast<void>(Destroy(handle)); }
};
template <class T, int (*Destroy)(T*)>
using Handle = std::unique_ptr<T, Destroyer<T, Destroy>>;

using Context = Handle<ibv_context, &ibv_close_device>;
using ProtectionDomain = Handle<ibv_pd, &ibv_dealloc_pd>;
using CompletionChannel = Handle<ibv_comp_channel, &ibv_destroy_comp_channel>;
using CompletionQueueHandle = Handle<ibv_cq, &ibv_destroy_cq>;
using QueuePairHandle = Handle<ibv_qp, &ibv_destroy_qp>;
using MemoryHandle = Handle<ibv_mr, &ibv_dereg_mr>;

/// LONGSPAN_RDMA: "device=mlx5_0,port=1,gid=3,tc=106,sl=3,pkey=0x8001,mtu=4096,timeout=16,retries=7", each optional.
struct Wishes {
  std::string device;
  int port = 0;        ///< 0: the first that is up
  int gid_index = -1;  ///< -1: RoCE v2 of the address that the rank is bound to; else of any IPv4; else of any IPv6
  std::uint8_t traffic_class = 0;
  std::uint8_t service_level = 0;
  int pkey = -1;  ///< -1: the one at index 0
  int mtu = 0;    ///< 0: the port's
  std::uint8_t timeout = 16;  ///< a packet is sent again after 4.096 us x 2^this
  std::uint8_t retries = 7;
};
Result<Wishes> parse_wishes(std::string_view text);

/// An open device, and which of its ports and addresses is used.
struct Device {
  Context context;
  ProtectionDomain domain;
  std::string name;
  std::uint8_t port = 1;
  bool roce = false;
  ibv_gid gid{};
  int gid_index = 0;
  std::uint16_t lid = 0;
  std::uint16_t pkey_index = 0;
  ibv_mtu mtu = IBV_MTU_1024;
  double rate_bytes_per_second = 0;  ///< as the port states it; 0: it does not
  ibv_device_attr limits{};
  Wishes wishes;

  /// "mlx5_0 port 1".
  std::string where() const;
  /// Devices reach each other only where it is the same: "RoCE", or an InfiniBand subnet.
  std::string fabric() const;
};

/// The device for an endpoint that is to be reached at `options.bind_address`. kUnsupported: there is none to use.
Result<Device> open_device(const spi::EndpointOptions& options);
/// "::ffff:10.0.0.1" or "fe80::1".
std::string to_string(const ibv_gid& gid);

}  // namespace longspan::verbs
