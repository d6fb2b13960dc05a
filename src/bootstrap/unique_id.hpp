#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bootstrap/socket.hpp"
#include "longspan/bootstrap.hpp"

namespace longspan::bootstrap {

/// What a UniqueId holds: where its directory listens, and the name of the communicator to be.
struct IdContents {
  std::uint64_t nonce = 0;
  std::uint16_t port = 0;
  std::vector<SocketAddress> addresses;  ///< as many as fit, likeliest first
};

UniqueId pack(const IdContents& contents);
/// kInvalidArgument: not made by `make_unique_id` of this version.
Result<IdContents> unpack(const UniqueId& id);

/// How rank `rank` of `size` ranks that all hold `id` is launched.
Result<LaunchInfo> launch_info_for(const UniqueId& id, int rank, int size);

/// How long the directory of an id waits for rank 0.
inline constexpr std::chrono::hours kIdLifetime{1};

}  // namespace longspan::bootstrap
