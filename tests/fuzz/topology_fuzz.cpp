// Any bytes as a topology file: no crash, and what is accepted can be written, read again, printed and placed on.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "longspan/topology.hpp"
#include "topology/placement.hpp"
#include "topology/print.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto topology = longspan::parse_topology(text, "fuzz");
  if (!topology.ok()) {
    if (!topology.status().message().starts_with("fuzz:")) std::abort();
    return 0;
  }
  const auto again = longspan::parse_topology(longspan::to_toml(*topology), "again");
  if (!again.ok()) std::abort();
  if (longspan::topology_digest(*again) != longspan::topology_digest(*topology)) std::abort();
  if (again->hosts != topology->hosts || again->wan != topology->wan) std::abort();
  (void)longspan::describe_topology(*topology);
  (void)longspan::warnings_of(*topology);
  return 0;
}
