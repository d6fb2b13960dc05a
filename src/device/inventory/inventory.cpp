#include "inventory/inventory.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace longspan::device {
namespace {

constexpr std::size_t kMaxLines = 64;  // of one kind: a switch may show thousands of virtual functions

std::string size_text(std::uint64_t bytes) {
  constexpr std::uint64_t kGi = 1ULL << 30, kMi = 1ULL << 20;
  if (bytes >= kGi) return fmt::format("{:.4g} GiB", static_cast<double>(bytes) / kGi);
  if (bytes >= kMi) return fmt::format("{:.4g} MiB", static_cast<double>(bytes) / kMi);
  return fmt::format("{:.4g} KiB", static_cast<double>(bytes) / 1024);
}

std::string speed_text(double bytes_per_second) {
  return bytes_per_second > 0 ? fmt::format("{:g} Gbit/s", bytes_per_second * 8e-9) : std::string("speed not stated");
}

std::string place_text(const Place& place) {
  std::string text = place.pci.empty() ? "not on PCI" : "PCI " + place.pci;
  return place.numa < 0 ? text : fmt::format("{}, NUMA {}", text, place.numa);
}

/// "0-3,8".
std::string ranges(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += text.empty() ? "" : ",";
    text += last == i ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[last]);
    i = last + 1;
  }
  return text;
}

template <class Items, class Line>
void list(std::string& text, const char* title, const Items& items, Line&& line) {
  if (items.empty()) return;
  text += fmt::format("  {}\n", title);
  for (std::size_t i = 0; i < items.size() && i < kMaxLines; ++i) text += "    " + line(items[i]) + "\n";
  if (items.size() > kMaxLines) text += fmt::format("    and {} more\n", items.size() - kMaxLines);
}

std::string nic_line(const Nic& nic) {
  std::string text = fmt::format("{:<12}{}, {}{}", nic.name, speed_text(nic.bytes_per_second), place_text(nic.place),
                                 nic.up.value_or(true) ? "" : ", down");
  if (!nic.addresses.empty()) text += fmt::format(", {}", fmt::join(nic.addresses, " "));
  return text;
}

std::string rdma_line(const RdmaDevice& rdma) {
  std::string text = fmt::format("{:<12}{}, {}", rdma.name, speed_text(rdma.bytes_per_second), place_text(rdma.place));
  for (const std::string& word : {rdma.link, rdma.state}) text += word.empty() ? "" : ", " + word;
  return text;
}

std::string gpu_line(const Gpu& gpu) {
  std::string text =
      fmt::format("{:<12}{}{}", gpu.name, gpu.model.empty() ? "" : gpu.model + ", ", place_text(gpu.place));
  if (!gpu.nearest_nics.empty()) text += fmt::format("; nearest NIC {}", fmt::join(gpu.nearest_nics, " "));
  if (!gpu.nearest_rdma.empty()) text += fmt::format("; nearest RDMA {}", fmt::join(gpu.nearest_rdma, " "));
  return text;
}

void add_nvlink(std::string& text, const Inventory& inventory) {
  if (inventory.nvlink.empty()) return;
  text += "  NVLink, GB/s each way\n    " + std::string(12, ' ');
  for (const Gpu& gpu : inventory.gpus) text += fmt::format("{:>10}", gpu.name);
  text += "\n";
  for (std::size_t i = 0; i < inventory.nvlink.size() && i < inventory.gpus.size(); ++i) {
    text += fmt::format("    {:<12}", inventory.gpus[i].name);
    for (std::size_t j = 0; j < inventory.nvlink[i].size(); ++j) {
      const double rate = inventory.nvlink[i][j];
      text += i == j ? fmt::format("{:>10}", "-") : fmt::format("{:>10g}", rate * 1e-9);
    }
    text += "\n";
  }
}

}  // namespace

Nearness nearness(const Place& a, const Place& b) {
  for (std::size_t i = 0; i < a.above.size(); ++i) {
    if (std::find(b.above.begin(), b.above.end(), a.above[i]) == b.above.end()) continue;
    return static_cast<int>(i) < a.bridges ? Nearness::kSameBridge : Nearness::kSameRoot;
  }
  return a.numa == b.numa ? Nearness::kSameNuma : Nearness::kOtherNuma;
}

std::string_view name_of(Nearness nearness) noexcept {
  switch (nearness) {
    case Nearness::kSameBridge: return "behind the same PCI bridge";
    case Nearness::kSameRoot: return "below the same PCI root";
    case Nearness::kSameNuma: return "at the same NUMA node";
    case Nearness::kOtherNuma: break;
  }
  return "at another NUMA node";
}

std::string describe(const Inventory& inventory) {
  std::string text = "Host";
  if (!inventory.host_name.empty()) text += " " + inventory.host_name;
  text +=
      fmt::format("\n  {}: {} package(s), {} cores, {} processing units\n",
                  inventory.cpu.empty() ? "CPU" : inventory.cpu, inventory.packages, inventory.cores, inventory.cpus);
  list(text, "caches", inventory.caches, [](const Cache& cache) {
    return fmt::format("L{}          {} x {}, each of {} core(s)", cache.level, cache.count, size_text(cache.bytes),
                       cache.cores);
  });
  list(text, "NUMA nodes", inventory.numa, [](const NumaNode& node) {
    const std::string cpus = node.cpus.empty() ? "no processing units" : "processing units " + ranges(node.cpus);
    return fmt::format("{:<12}{}, {} cores, {}", node.number, size_text(node.memory_bytes), node.cores, cpus);
  });
  list(text, "network cards", inventory.nics, nic_line);
  list(text, "RDMA devices", inventory.rdma, rdma_line);
  list(text, "GPUs", inventory.gpus, gpu_line);
  add_nvlink(text, inventory);
  for (const std::string& missing : inventory.missing) text += fmt::format("  not known: {}\n", missing);
  return text;
}

std::string describe(const std::vector<RankPlace>& places) {
  std::string text = "Ranks of this host, where they run best\n";
  for (std::size_t i = 0; i < places.size(); ++i) {
    const RankPlace& place = places[i];
    text += fmt::format("  local rank {:<3} numactl", i);
    if (!place.cpus.empty()) text += " --physcpubind=" + ranges(place.cpus);
    if (place.numa >= 0) text += fmt::format(" --preferred={}", place.numa);
    if (!place.gpu.empty()) text += "  GPU " + place.gpu;
    if (!place.nics.empty()) text += fmt::format("  NIC {}", fmt::join(place.nics, " "));
    if (!place.rdma.empty()) text += fmt::format("  RDMA {}", fmt::join(place.rdma, " "));
    text += "\n";
  }
  return text;
}

}  // namespace longspan::device
