#include <fmt/format.h>

#include <string_view>

#include "planner/report.hpp"

namespace longspan::planner {
namespace {

// Written by hand: the fields are few and flat, and the JSON library costs seconds of compile time.
std::string quoted(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (byte < 0x20) {
      json += fmt::format("\\u{:04x}", byte);
    } else {
      json += c;
    }
  }
  return json + "\"";
}

/// Microseconds, or null where not known.
std::string us(double seconds) { return seconds < 0 ? "null" : fmt::format("{:.3f}", seconds * 1e6); }

template <class Items, class Write>
std::string list(const Items& items, Write&& write) {
  std::string json = "[";
  bool first = true;
  for (const auto& item : items) {
    json += fmt::format("{}\n    {}", first ? "" : ",", write(item));
    first = false;
  }
  return json + (first ? "]" : "\n  ]");
}

std::string phase_json(const PhaseCost& p) {
  return fmt::format(R"({{"name": {}, "chunk_us": {}, "latency_us": {}, "bottleneck": {}}})", quoted(p.name),
                     us(p.chunk_seconds), us(p.latency_seconds), quoted(p.bottleneck));
}

std::string link_json(const LinkLoad& l) {
  return fmt::format(R"({{"link": {}, "bytes": {:.0f}, "us": {}}})", quoted(l.link), l.bytes,
                     l.seconds > 0 ? us(l.seconds) : "null");
}

std::string flow_json(const FlowLine& f) {
  const ChannelPlan& c = f.channel;
  return fmt::format(
      R"({{"from": {}, "to": {}, "link": {}, "bytes": {:.0f}, "rate_bytes_per_second": {:.0f}, )"
      R"("window_bytes": {}, "lanes": {}, "rtt_us": {}}})",
      f.from, f.to, quoted(f.link), f.bytes, c.rate_bytes_per_second, c.window_bytes, c.lanes, us(c.rtt_seconds));
}

std::string connections_json(const LinkConnections& g) {
  std::string reasons;
  for (const std::string& reason : g.reasons) reasons += (reasons.empty() ? "" : ", ") + quoted(reason);
  return fmt::format(
      R"({{"link": {}, "flows": {}, "from": {}, "to": {}, "transport": {}, "congestion_control": {}, )"
      R"("lanes": {}, "repair_lanes": {}, "express_lanes": {}, "rate_bytes_per_second": {:.0f}, )"
      R"("window_bytes": {}, "rtt_us": {}, "loss": {:g}, "reasons": [{}]}})",
      quoted(g.link), g.flows, g.from, g.to, g.transport.empty() ? "null" : quoted(g.transport),
      g.transport.empty() ? "null" : quoted(g.congestion_control), g.lanes, g.repair_lanes, g.express_lanes,
      g.channel.rate_bytes_per_second, g.channel.window_bytes, us(g.channel.rtt_seconds), g.channel.loss, reasons);
}

std::string transport_json(const TierTransport& each) {
  const auto passed = [](const PassedOver& p) {
    return fmt::format(R"({{"transport": {}, "reason": {}}})", quoted(p.transport), quoted(p.reason));
  };
  const TransportChoice& choice = each.choice;
  return fmt::format(R"({{"tier": {}, "transport": {}, "medium": {}, "reason": {}, "from": {}, "to": {}, "not": {}}})",
                     quoted(longspan::name_of(each.tier)), choice.transport.empty() ? "null" : quoted(choice.transport),
                     choice.transport.empty() ? "null" : quoted(name_of(choice.traits.medium)), quoted(choice.reason),
                     each.from, each.to, list(choice.passed, passed));
}

std::string rejected_json(const Rejected& r) {
  return fmt::format(R"({{"algorithm": {}, "predicted_us": {}, "reason": {}}})", quoted(r.name),
                     us(r.predicted_seconds), quoted(r.reason));
}

}  // namespace

std::string to_json(const Explanation& e, const Cluster& cluster) {
  const Decision& d = e.decision;
  std::string json = "{\n";
  const auto field = [&json](const char* name, const std::string& value) {
    json += fmt::format("  \"{}\": {},\n", name, value);
  };
  field("collective", quoted(name_of(d.shape.kind)));
  field("root", has_root(d.shape.kind) ? fmt::format("{}", d.shape.root) : "null");
  field("ranks", fmt::format("{}", cluster.size()));
  field("size", fmt::format("{:.0f}", buffer_bytes(d.shape, cluster.size(), e.block_bytes)));
  field("algorithm", quoted(d.full_name()));
  field("chunks", fmt::format("{}", d.chunks));
  field("window", fmt::format("{}", d.window));
  field("digest", fmt::format("\"{:016x}\"", d.digest));
  field("predicted_us", us(d.predicted_seconds));
  field("bound_us", us(e.bound.seconds));
  field("bound_set_by", e.bound.seconds < 0 ? "null" : quoted(e.bound.cut));
  field("phases", list(e.phases, phase_json));
  field("links", list(e.links, link_json));
  field("transports", list(e.transports, transport_json));
  field("flow_count", fmt::format("{}", e.flow_count));
  field("flows", list(e.flows, flow_json));
  field("connections", list(e.connections, connections_json));
  json += fmt::format("  \"rejected\": {}\n}}\n", list(e.rejected, rejected_json));
  return json;
}

}  // namespace longspan::planner
