// Any bytes as what tells a rank where rank 0 is: a unique id, ports, and the answers of something that may be a
// TCPStore.
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

#include "base/fd.hpp"
#include "bootstrap/socket.hpp"
#include "bootstrap/tcp_store.hpp"
#include "bootstrap/unique_id.hpp"

namespace {

using namespace longspan;
using namespace longspan::bootstrap;

void read_id(std::string_view bytes) {
  UniqueId id;
  std::memcpy(id.bytes, bytes.data(), std::min(bytes.size(), sizeof id.bytes));
  const auto contents = unpack(id);
  if (!contents.ok()) return;
  const auto again = unpack(pack(*contents));
  if (!again.ok() || again->nonce != contents->nonce || again->port != contents->port) __builtin_trap();
  (void)launch_info_for(id, 1, 2);
}

/// A store that answers the first question rightly, and then says `answers`.
void ask_store(std::string_view answers) {
  static const SocketAddress place = unix_address("longspan-fuzz-" + std::to_string(random_number()));
  static const Fd listener = listen_at(place).value();
  const TimePoint deadline = Clock::now() + std::chrono::seconds(2);
  std::thread server([answers, deadline] {
    if (!wait_ready(listener.get(), 1 /* POLLIN */, deadline)) return;
    const Fd client = accept_next(listener.get());
    const auto greeting = receive_exactly(client.get(), 10, deadline);
    if (!greeting.ok()) return;
    (void)send_all(client.get(), std::string_view(*greeting).substr(6), deadline);
    (void)send_all(client.get(), answers, deadline);
    ::shutdown(client.get(), SHUT_WR);
    char drop[256];
    while (wait_ready(client.get(), 1, deadline) && ::recv(client.get(), drop, sizeof drop, 0) > 0) {
    }
  });
  {
    auto store = TcpStore::connect(place, deadline);
    if (store.ok()) {
      const auto value = store->get("rank0", deadline);
      if (value.ok() && *value && (*value)->size() > 64 * 1024) __builtin_trap();
      (void)store->remove("rank0", deadline);
    }
  }
  server.join();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: ask_store(bytes); break;
    case 1: (void)parse_port_range(bytes); break;
    default: read_id(bytes); break;
  }
  return 0;
}
