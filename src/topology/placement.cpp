#include "topology/placement.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "base/nearest.hpp"
#include "base/rank_list.hpp"

namespace longspan {
namespace {

using Ip = std::array<unsigned char, 16>;

/// IPv4 as the IPv6 address that maps it (RFC 4291, 2.5.5.2), so that 10.0.0.1 is ::ffff:10.0.0.1.
std::optional<Ip> parse_ip(const std::string& text) {
  Ip ip{};
  if (::inet_pton(AF_INET6, text.c_str(), ip.data()) == 1) return ip;
  ip[10] = ip[11] = 0xFF;
  if (::inet_pton(AF_INET, text.c_str(), ip.data() + 12) == 1) return ip;
  return std::nullopt;
}

/// Finds hosts by name or address; remembers which addresses several hosts share.
class HostIndex {
 public:
  explicit HostIndex(const Topology& topology) : topology_(topology) {
    for (std::size_t i = 0; i < topology.hosts.size(); ++i) {
      by_name_.emplace(topology.hosts[i].name, static_cast<int>(i));
      if (const auto ip = parse_ip(topology.hosts[i].address)) by_ip_[*ip].push_back(static_cast<int>(i));
    }
  }

  /// The host of a rank, or why there is none.
  Result<int> find(const Whereabouts& rank) const {
    if (!rank.declared_host.empty()) return declared(rank.declared_host);
    if (const auto named = by_name_.find(rank.hostname); named != by_name_.end()) return named->second;
    if (const auto ip = parse_ip(rank.address)) {
      const auto found = by_ip_.find(*ip);
      if (found != by_ip_.end() && found->second.size() == 1) return found->second.front();
      if (found != by_ip_.end()) {
        return no_host(fmt::format("hosts {} share the address {}", names(found->second), rank.address));
      }
    }
    return no_host(fmt::format("neither the hostname '{}' nor the address '{}' is in {}", rank.hostname, rank.address,
                               topology_.source));
  }

  /// The names of all hosts, shortened.
  std::string all_names() const {
    std::vector<int> all(topology_.hosts.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
    return names(all);
  }

  std::string names(std::span<const int> hosts) const {
    constexpr std::size_t kShown = 16;
    std::string out;
    for (std::size_t i = 0; i < std::min(hosts.size(), kShown); ++i) {
      out += fmt::format("{}'{}'", i == 0 ? "" : ", ", topology_.hosts[static_cast<std::size_t>(hosts[i])].name);
    }
    if (hosts.size() > kShown) out += fmt::format(" and {} more", hosts.size() - kShown);
    return out;
  }

 private:
  static Status no_host(std::string why) { return {StatusCode::kInvalidArgument, std::move(why)}; }

  Result<int> declared(const std::string& name) const {
    if (const auto named = by_name_.find(name); named != by_name_.end()) return named->second;
    std::vector<std::string_view> candidates;
    for (const Host& host : topology_.hosts) candidates.push_back(host.name);
    return no_host(fmt::format("LONGSPAN_HOST is '{}', which is not in {}{}", name, topology_.source,
                               did_you_mean(name, candidates)));
  }

  const Topology& topology_;
  std::map<std::string, int, std::less<>> by_name_;
  std::map<Ip, std::vector<int>> by_ip_;
};

/// Ranks by what is wrong with them, so that a thousand ranks of one wrong host make one line.
class Complaints {
 public:
  void add(std::string_view what, int rank) {
    const auto [known, added] = index_.emplace(what, by_cause_.size());
    if (added) by_cause_.emplace_back(what, std::vector<int>());
    by_cause_[known->second].second.push_back(rank);
  }
  bool empty() const { return by_cause_.empty(); }
  std::string text() const {
    constexpr std::size_t kShown = 8;
    std::string out;
    for (std::size_t i = 0; i < std::min(by_cause_.size(), kShown); ++i) {
      out += fmt::format("{}{}: {}", i == 0 ? "" : "; ", rank_list(by_cause_[i].second), by_cause_[i].first);
    }
    if (by_cause_.size() <= kShown) return out;
    std::vector<int> rest;
    for (std::size_t i = kShown; i < by_cause_.size(); ++i) {
      rest.insert(rest.end(), by_cause_[i].second.begin(), by_cause_[i].second.end());
    }
    std::sort(rest.begin(), rest.end());
    return out + fmt::format("; nor can {} be placed", rank_list(rest));
  }

 private:
  std::vector<std::pair<std::string, std::vector<int>>> by_cause_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

void warn(std::vector<std::string>* warnings, std::string text) {
  if (warnings != nullptr) warnings->push_back(std::move(text));
}

void warn_of_other_files(const std::string& source, std::uint64_t digest, std::span<const Whereabouts> ranks,
                         std::vector<std::string>* warnings) {
  std::vector<int> others;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    // A rank without a file is told rank 0's; only one that holds something else deserves a word.
    if (ranks[i].topology_digest != 0 && ranks[i].topology_digest != digest) others.push_back(static_cast<int>(i));
  }
  if (others.empty()) return;
  warn(warnings, fmt::format("{} {} another topology (LONGSPAN_TOPOLOGY) than rank 0; all ranks use rank 0's: {}",
                             rank_list(others), others.size() == 1 ? "holds" : "hold", source));
}

void warn_of_idle_hosts(const Cluster& cluster, const HostIndex& index, std::vector<std::string>* warnings) {
  std::vector<bool> used(cluster.topology.hosts.size(), false);
  for (const int host : cluster.host_of_rank) used[static_cast<std::size_t>(host)] = true;
  std::vector<int> idle;
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) idle.push_back(static_cast<int>(i));
  }
  if (idle.empty()) return;
  warn(warnings, fmt::format("no rank runs on host{} {} of {}", idle.size() == 1 ? "" : "s", index.names(idle),
                             cluster.topology.source));
}

}  // namespace

Result<Cluster> place(Topology topology, std::span<const Whereabouts> ranks, std::vector<std::string>* warnings) {
  Cluster cluster;
  cluster.topology = std::move(topology);
  const HostIndex index(cluster.topology);
  Complaints complaints;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const auto host = index.find(ranks[i]);
    if (!host.ok()) complaints.add(host.status().message(), static_cast<int>(i));
    cluster.host_of_rank.push_back(host.ok() ? *host : -1);
  }
  if (!complaints.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}; the hosts of {} are {}: set LONGSPAN_HOST to the one that each rank runs on",
                              complaints.text(), cluster.topology.source, index.all_names()));
  }
  warn_of_other_files(cluster.topology.source, topology_digest(cluster.topology), ranks, warnings);
  warn_of_idle_hosts(cluster, index, warnings);
  return cluster;
}

Result<Cluster> place_without_file(std::span<const Whereabouts> ranks, std::vector<std::string>* warnings) {
  std::vector<std::string> names;
  Complaints complaints;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    names.push_back(ranks[i].declared_host.empty() ? ranks[i].hostname : ranks[i].declared_host);
    if (names.back().empty()) complaints.add("no hostname", static_cast<int>(i));
  }
  if (!complaints.empty()) {
    return Status(StatusCode::kInvalidArgument, complaints.text() + ": set LONGSPAN_HOST to a name for its host");
  }
  Cluster cluster;
  cluster.topology = flat_topology(names);
  std::map<std::string, int, std::less<>> index;
  for (std::size_t i = 0; i < cluster.topology.hosts.size(); ++i) {
    index.emplace(cluster.topology.hosts[i].name, static_cast<int>(i));
  }
  for (const std::string& name : names) cluster.host_of_rank.push_back(index.find(name)->second);
  warn_of_other_files("none", 0, ranks, warnings);
  return cluster;
}

}  // namespace longspan
