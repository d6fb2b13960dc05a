// Any bytes as what ranks tell each other at the rendezvous: what a rank is, and what rank 0 has decided for all.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/announcement.hpp"

using namespace longspan;
using namespace longspan::runtime;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  if (auto announced = Announcement::decode(bytes, 3); announced.ok()) {
    const std::string again = announced->encode();
    auto twice = Announcement::decode(again, 3);
    if (!twice.ok() || twice->encode() != again) __builtin_trap();
    // As a peer goes on: it chooses the transport, and the other end must choose the same.
    std::vector<planner::EndpointOffer> theirs, mine;
    for (const EndpointAddress& each : announced->endpoints) {
      (theirs.size() > mine.size() ? mine : theirs).push_back(each.offer);
    }
    for (int tier = 0; tier < kTierCount; ++tier) {
      const auto here = planner::choose_transport(mine, theirs, static_cast<Tier>(tier));
      if (here.transport != planner::choose_transport(theirs, mine, static_cast<Tier>(tier)).transport) {
        __builtin_trap();
      }
    }
  }
  if (auto context = Context::decode(bytes); context.ok()) {
    const std::string again = context->encode();
    auto twice = Context::decode(again);
    if (!twice.ok() || twice->encode() != again) __builtin_trap();
    // As a rank goes on: it names every rank's host.
    Cluster cluster;
    auto topology = parse_topology(context->topology, context->source);
    if (!topology.ok()) return 0;
    cluster.topology = std::move(topology).value();
    cluster.host_of_rank = std::move(context->host_of_rank);
    if (!check_places(cluster).ok()) return 0;
    for (int rank = 0; rank < cluster.size(); ++rank) static_cast<void>(cluster.describe(rank));
  }
  return 0;
}
