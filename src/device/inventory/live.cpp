#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "inventory/sources.hpp"

namespace longspan::device {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kInfiniband = "/sys/class/infiniband";

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Megabits per second as the driver states them; virtual cards say -1, or an error.
double speed_of(const std::string& nic) {
  const std::string text = first_line(fs::path("/sys/class/net") / nic / "speed");
  long megabits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), megabits);
  constexpr long kUnknown = 0xFFFFFFFF;  // how older drivers print -1
  return error == std::errc() && megabits > 0 && megabits != kUnknown ? static_cast<double>(megabits) * 1e6 / 8 : 0;
}

/// The literal, or "" for addresses that mean nothing to other hosts.
std::string literal(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address == nullptr) return {};
  if (address->sa_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof text);
  } else if (address->sa_family == AF_INET6) {
    const in6_addr& ip = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    if (!IN6_IS_ADDR_LINKLOCAL(&ip)) ::inet_ntop(AF_INET6, &ip, text, sizeof text);
  }
  return text;
}

struct FreeInterfaces {
  void operator()(ifaddrs* list) const noexcept { ::freeifaddrs(list); }
};

void add_interfaces(Inventory& inventory) {
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) {
    return inventory.missing.emplace_back("addresses of network cards: getifaddrs failed"), void();
  }
  const std::unique_ptr<ifaddrs, FreeInterfaces> all(raw);
  for (const ifaddrs* each = raw; each != nullptr; each = each->ifa_next) {
    if ((each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    const std::string name = each->ifa_name;
    const std::string address = literal(each->ifa_addr);
    auto nic = std::find_if(inventory.nics.begin(), inventory.nics.end(),
                            [&](const Nic& known) { return known.name == name; });
    if (nic == inventory.nics.end()) {
      if (address.empty()) continue;  // on no bus, and without an address: nothing to talk over
      inventory.nics.emplace_back().name = name;
      nic = std::prev(inventory.nics.end());
    }
    nic->up = (each->ifa_flags & IFF_UP) != 0 && (each->ifa_flags & IFF_RUNNING) != 0;
    if (!address.empty()) nic->addresses.push_back(address);
  }
  for (Nic& nic : inventory.nics) nic.bytes_per_second = speed_of(nic.name);
}

void add_rdma(Inventory& inventory) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(kInfiniband, error)) {
    const std::string name = entry.path().filename();
    auto device = std::find_if(inventory.rdma.begin(), inventory.rdma.end(),
                               [&](const RdmaDevice& known) { return known.name == name; });
    if (device == inventory.rdma.end()) {
      inventory.rdma.emplace_back().name = name;
      device = std::prev(inventory.rdma.end());
    }
    const fs::path port = entry.path() / "ports" / "1";
    device->bytes_per_second = rate_of_port(first_line(port / "rate"));
    device->link = first_line(port / "link_layer");
    const std::string state = first_line(port / "state");  // "4: ACTIVE"
    const std::size_t colon = state.find(": ");
    if (colon != std::string::npos) device->state = state.substr(colon + 2);
  }
}

}  // namespace

double rate_of_port(std::string_view text) {
  double gigabits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), gigabits);
  const std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  return error == std::errc() && gigabits > 0 && gigabits < 1e6 && rest.starts_with(" Gb/sec") ? gigabits * 1e9 / 8 : 0;
}

void add_live(Inventory& inventory) {
  add_interfaces(inventory);
  add_rdma(inventory);
  if (inventory.gpus.empty() || !inventory.nvlink.empty()) return;
  std::string why;
  const std::vector<NvLink> links = nvlinks_of_this_host(why);
  if (!why.empty()) inventory.missing.push_back("NVLink: " + why);
  inventory.nvlink = nvlink_matrix(inventory.gpus, links);
}

void complete(Inventory& inventory) {
  const auto nearest = [](const Place& place, const auto& devices) {
    Nearness best = Nearness::kOtherNuma;
    for (const auto& each : devices) {
      if (!each.place.pci.empty()) best = std::min(best, nearness(place, each.place));
    }
    std::vector<std::string> names;
    for (const auto& each : devices) {
      if (!each.place.pci.empty() && nearness(place, each.place) == best) names.push_back(each.name);
    }
    return names;
  };
  for (Gpu& gpu : inventory.gpus) {
    gpu.nearest_nics = nearest(gpu.place, inventory.nics);
    gpu.nearest_rdma = nearest(gpu.place, inventory.rdma);
  }
}

}  // namespace longspan::device
