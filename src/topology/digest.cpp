#include <algorithm>
#include <bit>
#include <cstddef>
#include <optional>
#include <string_view>
#include <tuple>

#include "topology/placement.hpp"

namespace longspan {
namespace {

/// FNV-1a (Fowler, Noll, Vo): short, and the same on every machine. It tells files apart, not attackers.
class Digest {
 public:
  void add(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) add_byte(static_cast<std::uint8_t>(value >> shift));
  }
  void add(int value) { add(static_cast<std::uint64_t>(value)); }
  void add(double value) { add(std::bit_cast<std::uint64_t>(value + 0.0)); }  // + 0.0: -0.0 equals 0.0
  void add(std::string_view text) {
    add(static_cast<std::uint64_t>(text.size()));  // or "ab","c" would be "a","bc"
    for (const char c : text) add_byte(static_cast<std::uint8_t>(c));
  }
  void add(const std::optional<Bandwidth>& bandwidth) { add(bandwidth ? bandwidth->bytes_per_second : -1.0); }
  std::uint64_t value() const { return hash_ == 0 ? 1 : hash_; }

 private:
  void add_byte(std::uint8_t byte) { hash_ = (hash_ ^ byte) * 0x100000001B3ULL; }

  std::uint64_t hash_ = 0xCBF29CE484222325ULL;
};

}  // namespace

std::uint64_t topology_digest(const Topology& topology) {
  Digest digest;
  for (const auto* groups : {&topology.regions, &topology.sites, &topology.racks}) {
    digest.add(static_cast<std::uint64_t>(groups->size()));
    for (const Group& group : *groups) {
      digest.add(group.name);
      digest.add(group.parent);
      digest.add(group.uplink);
      digest.add(group.uplink_latency.count());
    }
  }
  digest.add(static_cast<std::uint64_t>(topology.hosts.size()));
  for (const Host& host : topology.hosts) {
    digest.add(host.name);
    digest.add(host.rack);
    digest.add(host.address);
    digest.add(host.nic);
    digest.add(host.gateway ? 1 : 0);
  }
  // The links in the order of their ends: in a file their order, and which way is written, mean nothing.
  std::vector<WanLink> links = topology.wan;
  std::sort(links.begin(), links.end(),
            [](const WanLink& a, const WanLink& b) { return std::tie(a.from, a.to) < std::tie(b.from, b.to); });
  digest.add(static_cast<std::uint64_t>(links.size()));
  for (const WanLink& link : links) {
    digest.add(link.from);
    digest.add(link.to);
    digest.add(link.bandwidth.bytes_per_second);
    digest.add(link.latency.count());
    digest.add(link.buffer_bytes.value_or(0));
    digest.add(link.loss);
  }
  return digest.value();
}

}  // namespace longspan
