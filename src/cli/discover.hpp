#pragma once

#include <string>

#include "inventory/inventory.hpp"
#include "longspan/status.hpp"

namespace longspan::cli {

/// What `longspan topo --discover` is told, beside what it finds.
struct DiscoverRequest {
  std::string xml;   ///< an hwloc XML file to read instead of this host
  std::string name;  ///< of the host; empty: LONGSPAN_HOST, else what the inventory says, else the hostname
  std::string nic;   ///< name of the network card that others reach it by; empty: the fastest with an address
  std::string region, site, rack;
};

/// The text of a topology file with this one host: only what was found, the rest as comments that say what to fill in.
/// The text is accepted by parse_topology.
Result<std::string> discovered_file(const device::Inventory& inventory, const DiscoverRequest& request);

}  // namespace longspan::cli
