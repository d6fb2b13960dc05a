#pragma once

#include "bootstrap/meeting.hpp"
#include "bootstrap/rendezvous.hpp"

namespace longspan::bootstrap {

/// Rank 0's side of `exchange`.
Result<Rendezvous> gather_ranks(MeetingPlace& place, RendezvousRequest request);
/// The side of every other rank.
Result<Rendezvous> join_ranks(MeetingPlace& place, RendezvousRequest request);

}  // namespace longspan::bootstrap
