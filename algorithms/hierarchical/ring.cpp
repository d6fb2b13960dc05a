#include "hierarchical/ring.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

namespace longspan::hierarchical {
namespace {

// Less than any interval between exact positions of a plan; what is left of sums of doubles.
constexpr double kNothing = 1e-12;

// The children of a unit as a ring, seen from one rank, and the parts that pass through it.
class Ring {
 public:
  struct Atom {
    Interval span;
    std::size_t owner = 0;  // index of the child that ends up with it (reduce-scatter) or has it first (allgather)
    int before = 0;         // its holder in the child before mine, and after
    int after = 0;
  };

  Ring(const Tiers& tiers, const Unit& unit, int me) : tiers_(tiers), unit_(unit) {
    const int mine = tiers.below(me, unit.level);
    for (std::size_t i = 0; i < unit.children.size(); ++i) {
      if (unit.children[i] == mine) at_ = i;
    }
    by_owner_.resize(size());
    find_atoms(me);
  }

  std::size_t size() const { return unit_.children.size(); }
  std::size_t at() const { return at_; }
  /// Parts owned by the child `steps` before this rank's, ascending.
  const std::vector<Atom>& owned_before(std::size_t steps) const {
    return by_owner_[(at_ + size() - steps % size()) % size()];
  }

 private:
  const Partition& child(std::size_t i) const { return tiers_.unit(unit_.children[i % size()]).partition; }

  // Both ends of a hop must cut alike, so all children's edges count, not only the neighbours'.
  void find_atoms(int me) {
    std::vector<Fraction> edges;
    for (const Segment& segment : unit_.partition) edges.push_back(segment.span.begin);
    for (std::size_t i = 0; i < size(); ++i) {
      for (const Segment& segment : child(i)) edges.push_back(segment.span.begin);
    }
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    std::unordered_map<int, std::size_t> index_of_child;
    for (std::size_t i = 0; i < size(); ++i) index_of_child[unit_.children[i]] = i;
    const Segment* here = child(at_).data();
    const Segment* before = child(at_ + size() - 1).data();
    const Segment* after = child(at_ + 1).data();
    const Segment* owner = unit_.partition.data();
    for (std::size_t e = 0; e < edges.size(); ++e) {
      const Interval span{edges[e], e + 1 < edges.size() ? edges[e + 1] : kOne};
      for (const Segment** at : {&here, &before, &after, &owner}) {
        while ((*at)->span.end <= span.begin) ++*at;
      }
      if (here->rank != me) continue;
      const std::size_t owned_by = index_of_child.at(tiers_.below(owner->rank, unit_.level));
      by_owner_[owned_by].push_back(Atom{span, owned_by, before->rank, after->rank});
    }
  }

  const Tiers& tiers_;
  const Unit& unit_;
  std::size_t at_ = 0;
  std::vector<std::vector<Atom>> by_owner_;
};

using Flows = std::map<std::pair<int, int>, double>;

// What goes from child i to the next: everything, but the parts for which `ends_at` (owned by child i or by the next)
// that hop does not exist.
Flows hop_flows(const Tiers& tiers, const Unit& unit, std::size_t i, const Partition& excepted) {
  const Partition& from = tiers.unit(unit.children[i]).partition;
  const Partition& to = tiers.unit(unit.children[(i + 1) % unit.children.size()]).partition;
  Flows flows;
  for (const Piece& piece : transfers(from, to)) flows[{piece.from, piece.to}] += piece.span.length();
  for (const Segment& segment : excepted) {
    const Partition only{segment};
    for (const Piece& piece : transfers(only, to)) {
      for (const Piece& held : transfers(from, Partition{Segment{piece.span, piece.to}})) {
        flows[{held.from, held.to}] -= held.span.length();
      }
    }
  }
  return flows;
}

std::vector<Partition> owned_by_child(const Tiers& tiers, const Unit& unit) {
  std::unordered_map<int, std::size_t> index_of_child;
  for (std::size_t i = 0; i < unit.children.size(); ++i) index_of_child[unit.children[i]] = i;
  std::vector<Partition> owned(unit.children.size());
  for (const Segment& segment : unit.partition) {
    owned[index_of_child.at(tiers.below(segment.rank, unit.level))].push_back(segment);
  }
  return owned;
}

void add_flows(spi::Stage& stage, const Flows& flows) {
  for (const auto& [pair, share] : flows) {
    if (share > kNothing) stage.flows.push_back(spi::StageFlow{pair.first, pair.second, share});
  }
}

void mark_ring(spi::Stage& stage, const Unit& unit) {
  stage.rounds = std::max(stage.rounds, static_cast<int>(unit.children.size()) - 1);
  stage.chained = true;
}

}  // namespace

Holding ring_climb(Wire& wire, const Tiers& tiers, const Unit& unit, const Holding& mine, const Place& place,
                   bool final_value) {
  const Ring ring(tiers, unit, wire.rank());
  Holding result;
  for (const Segment& segment : unit.partition) {
    if (segment.rank == wire.rank()) result.push_back(Held{segment.span, place(segment.span)});
  }
  Holding partial = mine;
  for (std::size_t round = 0; round + 1 < ring.size(); ++round) {
    for (const Ring::Atom& atom : ring.owned_before(round + 1)) wire.send(atom.after, find(partial, atom.span));
    const bool last = round + 2 == ring.size();
    partial.clear();
    for (const Ring::Atom& atom : ring.owned_before(round + 2)) {
      const Slice extent = spi::ScheduleBuilder::in(0, atom.span.begin, atom.span.end);
      const Slice got = wire.recv_scratch(atom.before, extent);
      const Slice own = find(mine, atom.span);
      const Slice dst = last ? find(result, atom.span) : wire.builder().scratch(extent);
      // In canonical order: the first child comes before all who passed the part on, any other comes after them.
      if (ring.at() == 0) {
        wire.builder().reduce(dst, {own, got}, last && final_value);
      } else {
        wire.builder().reduce(dst, {got, own}, last && final_value);
      }
      partial.push_back(Held{atom.span, dst});
    }
  }
  return result;
}

void ring_descend(Wire& wire, const Tiers& tiers, const Unit& unit, const Slice& output) {
  const Ring ring(tiers, unit, wire.rank());
  for (std::size_t round = 0; round + 1 < ring.size(); ++round) {
    for (const Ring::Atom& atom : ring.owned_before(round)) wire.send(atom.after, cut(output, atom.span));
    for (const Ring::Atom& atom : ring.owned_before(round + 1)) wire.recv(atom.before, cut(output, atom.span));
  }
}

void add_ring_climb(spi::Stage& stage, const Tiers& tiers, const Unit& unit) {
  const std::vector<Partition> owned = owned_by_child(tiers, unit);
  const std::size_t size = owned.size();
  for (std::size_t i = 0; i < size; ++i) {
    const Flows flows = hop_flows(tiers, unit, i, owned[i]);
    add_flows(stage, flows);
    std::unordered_map<int, double> received;
    for (const auto& [pair, share] : flows) {
      stage.reduce_share = std::max(stage.reduce_share, 2 * (received[pair.second] += share));
    }
  }
  mark_ring(stage, unit);
}

void add_ring_descend(spi::Stage& stage, const Tiers& tiers, const Unit& unit) {
  const std::vector<Partition> owned = owned_by_child(tiers, unit);
  const std::size_t size = owned.size();
  for (std::size_t i = 0; i < size; ++i) add_flows(stage, hop_flows(tiers, unit, i, owned[(i + 1) % size]));
  mark_ring(stage, unit);
}

}  // namespace longspan::hierarchical
