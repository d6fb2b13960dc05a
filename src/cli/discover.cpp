#include "cli/discover.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <tuple>

#include "longspan/options.hpp"
#include "longspan/topology.hpp"

namespace longspan::cli {
namespace {

std::string hostname() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? std::string(name) : std::string("localhost");
}

Result<std::string> name_of_host(const device::Inventory& inventory, const DiscoverRequest& request) {
  if (!request.name.empty()) return request.name;
  if (!request.xml.empty() && !inventory.host_name.empty()) return inventory.host_name;
  LONGSPAN_ASSIGN(const Options options, resolve({}));
  return options.host.value_or(inventory.host_name.empty() ? hostname() : inventory.host_name);
}

bool is_ipv4(const std::string& address) { return address.find(':') == std::string::npos; }

/// The card that others reach this host by: up and with an address before others, then the fastest, then on a bus.
Result<const device::Nic*> card_of(const device::Inventory& inventory, const std::string& wanted) {
  const device::Nic* best = nullptr;
  const auto key = [](const device::Nic& nic) {
    return std::tuple(nic.up.value_or(true) && !nic.addresses.empty(), nic.bytes_per_second, !nic.place.pci.empty());
  };
  for (const device::Nic& nic : inventory.nics) {
    if (nic.name == wanted) return &nic;
    if (best == nullptr || key(nic) > key(*best)) best = &nic;
  }
  if (wanted.empty()) return best;
  std::string known;
  for (const device::Nic& nic : inventory.nics) known += (known.empty() ? "" : ", ") + nic.name;
  return Status(StatusCode::kInvalidArgument,
                fmt::format("--nic {}: no such network card; there are: {}", wanted, known.empty() ? "none" : known));
}

/// One host, with the groups that were named.
Topology host_alone(const std::string& name, const DiscoverRequest& request) {
  Topology topology = flat_topology({name});
  topology.regions[0].name = request.region;
  topology.sites[0].name = request.site;
  topology.racks[0].name = request.rack;
  return topology;
}

/// Why there are fewer keys than the format has, and what else was found that it has no key for.
std::string comments(const device::Inventory& inventory, const device::Nic* card) {
  std::string text;
  if (card == nullptr) text += "# address and nic: no network card was found\n";
  else if (card->addresses.empty()) text += fmt::format("# address: {} has none\n", card->name);
  if (card != nullptr && card->bytes_per_second <= 0) {
    text += fmt::format(
        "# nic: the driver of {} does not state a speed; add what it carries, e.g. nic = \"10 Gbit/s\"\n", card->name);
  }
  for (const device::Nic& nic : inventory.nics) {
    if (&nic == card || nic.addresses.empty()) continue;
    text += fmt::format("# also: {} at {} (LONGSPAN_NICS uses several together)\n", nic.name,
                        fmt::join(nic.addresses, " "));
  }
  for (const device::RdmaDevice& rdma : inventory.rdma) text += fmt::format("# RDMA: {}\n", rdma.name);
  for (const device::Gpu& gpu : inventory.gpus) {
    text += fmt::format("# GPU: {}{}\n", gpu.name, gpu.model.empty() ? "" : ", " + gpu.model);
  }
  return text;
}

}  // namespace

Result<std::string> discovered_file(const device::Inventory& inventory, const DiscoverRequest& request) {
  LONGSPAN_ASSIGN(const std::string name, name_of_host(inventory, request));
  LONGSPAN_ASSIGN(const device::Nic* card, card_of(inventory, request.nic));
  Topology topology = host_alone(name, request);
  if (card != nullptr) {
    Host& host = topology.hosts[0];
    const auto v4 = std::find_if(card->addresses.begin(), card->addresses.end(), is_ipv4);
    if (!card->addresses.empty()) host.address = v4 != card->addresses.end() ? *v4 : card->addresses.front();
    if (card->bytes_per_second > 0) host.nic = Bandwidth{card->bytes_per_second};
  }
  const std::string text = to_toml(topology) + comments(inventory, card);
  auto again = parse_topology(text, "(discovered)");
  if (!again.ok()) return again.status();
  return text;
}

}  // namespace longspan::cli
