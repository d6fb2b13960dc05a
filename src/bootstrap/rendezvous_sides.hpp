#pragma once

#include "bootstrap/meeting.hpp"
#include "bootstrap/rendezvous.hpp"

namespace longspan::bootstrap {

/// How long two sides whose keys differ go on trying: what answers, or calls, may be of another job.
inline constexpr std::chrono::seconds kKeyPatience{3};

/// Rank 0's side of `exchange`.
Result<Rendezvous> gather_ranks(MeetingPlace& place, RendezvousRequest request);
/// The side of every other rank.
Result<Rendezvous> join_ranks(MeetingPlace& place, RendezvousRequest request);

}  // namespace longspan::bootstrap
