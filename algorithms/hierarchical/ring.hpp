#pragma once

#include "hierarchical/exchange.hpp"
#include "hierarchical/intervals.hpp"
#include "hierarchical/tiers.hpp"
#include "hierarchical/wire.hpp"
#include "longspan/spi/algorithm.hpp"

namespace longspan::hierarchical {

/// Reduce-scatter inside a unit along the ring of its children (Patarasuk and Yuan, 2009): each part of the sum starts
/// at the child after its owner and collects one child's contribution per hop. The bytes of the direct exchange, k - 1
/// hops instead of one, but only two neighbours for each rank.
Holding ring_climb(Wire& wire, const Tiers& tiers, const Unit& unit, const Holding& mine, const Place& place,
                   bool final_value);

/// Allgather inside a unit along the same ring: each part starts at its owner and is handed on k - 1 times.
void ring_descend(Wire& wire, const Tiers& tiers, const Unit& unit, const Slice& output);

void add_ring_climb(spi::Stage& stage, const Tiers& tiers, const Unit& unit);
void add_ring_descend(spi::Stage& stage, const Tiers& tiers, const Unit& unit);

}  // namespace longspan::hierarchical
