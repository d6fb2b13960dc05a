#include "bootstrap/rendezvous.hpp"

#include <fmt/format.h>

#include "bootstrap/meeting.hpp"
#include "bootstrap/rendezvous_messages.hpp"
#include "bootstrap/rendezvous_sides.hpp"

namespace longspan::bootstrap {
namespace {

Status check(const RendezvousRequest& request) {
  const LaunchInfo& l = request.launch;
  if (l.size < 1 || l.rank < 0 || l.rank >= l.size) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("RANK={} with WORLD_SIZE={}: expected 0 <= RANK < WORLD_SIZE", l.rank, l.size));
  }
  if (request.payload.size() > kMaxPayload) {
    return Status(StatusCode::kInternal, fmt::format("a rank's announcement has {} bytes", request.payload.size()));
  }
  return {};
}

Result<Rendezvous> alone(RendezvousRequest& request) {
  Rendezvous r;
  r.job = random_number();
  r.hosts.push_back(request.host);
  r.payloads.push_back(std::move(request.payload));
  if (request.make_context) {
    LONGSPAN_ASSIGN(r.context, request.make_context(r.payloads));
  }
  r.links.to_rank.resize(1);
  return r;
}

}  // namespace

std::string describe_ranks(const std::vector<int>& ranks) {
  std::string out;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    const char* gap = out.empty() ? "" : " ";
    out += last == i ? fmt::format("{}{}", gap, ranks[i]) : fmt::format("{}{}-{}", gap, ranks[i], ranks[last]);
    i = last + 1;
  }
  return out;
}

Result<Rendezvous> exchange(RendezvousRequest request) {
  LONGSPAN_TRY(check(request));
  if (request.host.empty()) request.host = this_host_name();
  request.host.resize(std::min(request.host.size(), kMaxLabel));
  if (request.launch.size == 1) return alone(request);
  LONGSPAN_ASSIGN(auto place, meeting_place_of(request.launch, request.guard));
  place->listen_within(request.ports, request.advertise);
  return request.launch.rank == 0 ? gather_ranks(*place, std::move(request)) : join_ranks(*place, std::move(request));
}

}  // namespace longspan::bootstrap
