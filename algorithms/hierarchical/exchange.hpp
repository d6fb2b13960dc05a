#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "hierarchical/intervals.hpp"
#include "hierarchical/tiers.hpp"
#include "hierarchical/wire.hpp"
#include "longspan/spi/algorithm.hpp"

namespace longspan::hierarchical {

/// Gives the memory for a part of a result.
using Place = std::function<Slice(const Interval&)>;

/// What one operand of a reduction (a child unit, a region) holds, and where this rank has its own part of it.
struct Source {
  const Partition* holders = nullptr;
  const Holding* mine = nullptr;  ///< nullptr when this rank holds nothing of it
  bool copied = false;            ///< its holders overwrite what they send with the result of the same exchange
};

/// Reduces, on the parts of [0, 1) that `owners` gives to this rank, what the sources hold, in their order: receives
/// what others hold, then one n-ary reduction per stretch between changes of holder. Returns where the results lie.
/// `block` of the input is what is reduced.
Holding reduce_owned(Wire& wire, const Partition& owners, std::span<const Source> sources, const Place& place,
                     bool final_value, std::uint32_t block = 0);

/// Sends to each owner what this rank holds of its part (its own excepted), the nearest following rank first, so that
/// not all begin with the same receiver.
void send_owned(Wire& wire, const Partition& owners, const Holding& mine);

/// Moves up the tree: reduce-scatter inside each unit, one phase per level. Results stay in scratch, which may be sent
/// while the output is written; those of the last level go to `final_place` when it is given, and are final values.
Holding climb(Wire& wire, const Tiers& tiers, const Slice& input, const Place* final_place);

/// Between the regions, one-shot: every region's holder of a part sends it to its holders in each other region, or in
/// region `only` (then nobody else may call this: they just send).
Holding exchange_regions(Wire& wire, const Tiers& tiers, const Holding& mine, const Place& final_place, int only = -1);

/// Moves down the tree: allgather inside each unit, one phase per level. `skip` already has everything (-1: nobody; a
/// ring skips nobody).
void descend(Wire& wire, const Tiers& tiers, const Slice& output, int skip);

/// The stages of the same moves.
void add_climb(std::vector<spi::Stage>& stages, const Tiers& tiers);
void add_exchange(std::vector<spi::Stage>& stages, const Tiers& tiers);
void add_descend(std::vector<spi::Stage>& stages, const Tiers& tiers, int skip);

std::string climb_name(const Tiers& tiers, Tier level);
std::string descend_name(const Tiers& tiers, Tier level);
inline constexpr const char* kExchangeName = "wan exchange";

/// Flow of each piece that moves.
void add_flows(spi::Stage& stage, const std::vector<Piece>& pieces);
/// The longest total that one rank owns.
double largest_share(const Partition& partition);

}  // namespace longspan::hierarchical
