#include "planner/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "planner/text.hpp"

namespace longspan::planner {
namespace {

constexpr std::size_t kMaxLinkLines = 12;
constexpr std::size_t kMaxFlowLinesShown = 12;

/// Blocks in the larger buffer.
int blocks_of(const CollectiveShape& shape, int ranks) {
  int most = 1;
  const int root = has_root(shape.kind) ? shape.root : 0;
  most = std::max({most, blocks_in(shape, ranks, root), blocks_out(shape, ranks, root)});
  return most;
}

std::string plural(std::size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

void add_summary(std::string& text, const Explanation& e) {
  const Decision& d = e.decision;
  std::string chunks = "in one piece";
  if (d.chunks > 1) {
    chunks = fmt::format("{} chunks of {}, {} in flight", d.chunks, bytes_text(e.block_bytes / d.chunks), d.window);
  }
  text += fmt::format("  plan        {}, {}\n", d.full_name(), chunks);
  text += d.predicted_seconds < 0 ? std::string("  predicted   too many flows to price\n")
                                  : fmt::format("  predicted   {}", time_text(d.predicted_seconds));
  if (d.predicted_seconds >= 0) {
    const bool comparable = e.bound.seconds > 0 && d.predicted_seconds > 0;
    text += comparable ? fmt::format(" = {:.1f} % of the bound\n", 100 * e.bound.seconds / d.predicted_seconds) : "\n";
  }
  text += e.bound.seconds < 0 ? std::string("  bound       not known: no capacity or latency is stated\n")
                              : fmt::format("  bound       {}, set by {}\n", time_text(e.bound.seconds), e.bound.cut);
  text += fmt::format("  digest      {:016x}\n", d.digest);
}

void add_phases(std::string& text, const Explanation& e) {
  if (e.phases.empty()) return;
  text += fmt::format("\n  {:<26}{:>12}{:>12}{:>12}  {}\n", "phase", "one chunk", "all", "latency", "slowest");
  for (const PhaseCost& phase : e.phases) {
    text += fmt::format("  {:<26}{:>12}{:>12}{:>12}  {}\n", phase.name, time_text(phase.chunk_seconds),
                        time_text(phase.chunk_seconds * e.decision.chunks), time_text(phase.latency_seconds),
                        phase.bottleneck);
  }
}

void add_links(std::string& text, const Explanation& e) {
  if (e.links.empty()) return;
  text += fmt::format("\n  {:<26}{:>12}{:>12}{:>12}\n", "link", "bytes", "time", "busy");
  std::size_t shown = 0;
  for (const LinkLoad& load : e.links) {
    if (shown++ == kMaxLinkLines) {
      text += fmt::format("  and {} more\n", e.links.size() - kMaxLinkLines);
      break;
    }
    const bool known = load.seconds > 0;
    const bool priced = known && e.decision.predicted_seconds > 0;
    text += fmt::format("  {:<26}{:>12}{:>12}{:>12}\n", load.link, bytes_text(load.bytes),
                        known ? time_text(load.seconds) : "not stated",
                        priced ? fmt::format("{:.0f} %", 100 * load.seconds / e.decision.predicted_seconds) : "");
  }
}

void add_flows(std::string& text, const Explanation& e) {
  if (e.flows.empty()) return;
  text +=
      fmt::format("\n  {:<26}{:>12}{:>16}{:>12}{:>8}\n", "flow between regions", "bytes", "rate", "window", "lanes");
  std::size_t shown = 0;
  for (const FlowLine& flow : e.flows) {
    if (shown++ == kMaxFlowLinesShown) {
      text += fmt::format("  and {} more\n", e.flow_count - kMaxFlowLinesShown);
      break;
    }
    text += fmt::format("  {:<26}{:>12}{:>16}{:>12}{:>8}\n",
                        fmt::format("rank {} -> {}  {}", flow.from, flow.to, flow.link.substr(4)),
                        bytes_text(flow.bytes), rate_text(flow.channel.rate_bytes_per_second),
                        bytes_text(static_cast<double>(flow.channel.window_bytes)), flow.channel.lanes);
  }
}

void add_connections(std::string& text, const Explanation& e) {
  if (e.connections.empty()) return;
  text += "\n  connections of each flow between regions, as a host like this one makes them\n";
  std::size_t shown = 0;
  for (const LinkConnections& group : e.connections) {
    if (shown++ == kMaxLinkLines) {
      text += fmt::format("  and {} more\n", e.connections.size() - kMaxLinkLines);
      break;
    }
    text += fmt::format("  {}  {}, ", group.link, plural(group.flows, "flow"));
    if (!group.transport.empty()) {
      text += fmt::format("{} {}: {} for data", group.transport, group.congestion_control, group.lanes);
      if (group.repair_lanes > 0) text += fmt::format(" + {} for repeats", group.repair_lanes);
      if (group.express_lanes > 0) text += fmt::format(" + {} for small messages", group.express_lanes);
      text += ", ";
    }
    text += fmt::format("rate {}, window {}\n", rate_text(group.channel.rate_bytes_per_second),
                        bytes_text(static_cast<double>(group.channel.window_bytes)));
    for (const std::string& reason : group.reasons) text += fmt::format("    - {}\n", reason);
  }
}

void add_transports(std::string& text, const Explanation& e) {
  if (e.transports.empty()) return;
  text += "\n  transports, with hosts like this one\n";
  for (const TierTransport& each : e.transports) {
    const TransportChoice& choice = each.choice;
    text += fmt::format("  {:<8}{:<10}{}\n", longspan::name_of(each.tier),
                        choice.transport.empty() ? "none" : choice.transport,
                        choice.transport.empty() ? "nothing joins these ranks" : choice.reason);
    for (const PassedOver& passed : choice.passed) {
      text += fmt::format("    - not {}: {}\n", passed.transport, passed.reason);
    }
  }
}

void add_rejected(std::string& text, const Explanation& e) {
  if (e.rejected.empty()) return;
  text += fmt::format("\n  {:<26}{:>12}  {}\n", "rejected", "predicted", "why");
  for (const Rejected& candidate : e.rejected) {
    text +=
        fmt::format("  {:<26}{:>12}  {}\n", candidate.name,
                    candidate.predicted_seconds < 0 ? "-" : time_text(candidate.predicted_seconds), candidate.reason);
  }
}

}  // namespace

double buffer_bytes(const CollectiveShape& shape, int ranks, double block_bytes) {
  return block_bytes * blocks_of(shape, ranks);
}

std::size_t block_bytes_of(const CollectiveShape& shape, int ranks, std::size_t buffer_bytes) {
  return buffer_bytes / static_cast<std::size_t>(blocks_of(shape, ranks));
}

std::string title_of(const Explanation& e, const Cluster& cluster) {
  const std::set<int> hosts(cluster.host_of_rank.begin(), cluster.host_of_rank.end());
  std::set<int> regions;
  for (int rank = 0; rank < cluster.size(); ++rank) regions.insert(cluster.region_of(rank));
  const CollectiveShape& shape = e.decision.shape;
  std::string what(name_of(shape.kind));
  if (shape.kind != Collective::kBarrier)
    what += " of " + bytes_text(buffer_bytes(shape, cluster.size(), e.block_bytes));
  if (has_root(shape.kind)) what += fmt::format(", root {},", shape.root);
  return fmt::format("{} over {} on {} in {}", what, plural(cluster.host_of_rank.size(), "rank"),
                     plural(hosts.size(), "host"), plural(regions.size(), "region"));
}

std::string describe(const Explanation& e, const Cluster& cluster) {
  std::string text = title_of(e, cluster) + "\n\n";
  add_summary(text, e);
  add_phases(text, e);
  add_links(text, e);
  add_transports(text, e);
  add_flows(text, e);
  add_connections(text, e);
  add_rejected(text, e);
  return text;
}

}  // namespace longspan::planner
