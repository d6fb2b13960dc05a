#include "hierarchical/exchange.hpp"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "hierarchical/ring.hpp"

namespace longspan::hierarchical {
namespace {

// Where each source's operand for a part of the result lies, in ascending order.
std::vector<Holding> collect(Wire& wire, const Partition& owners, std::span<const Source> sources,
                             std::uint32_t block) {
  const int me = wire.rank();
  const int ranks = wire.builder().ranks();
  struct Arrival {
    Piece piece;
    std::size_t source;
    std::size_t entry;
  };
  std::vector<Arrival> arrivals;
  std::vector<Holding> operands(sources.size());
  for (std::size_t s = 0; s < sources.size(); ++s) {
    for (const Piece& piece : transfers_to(*sources[s].holders, owners, me)) {
      Slice slice;
      if (piece.from == me) {
        slice = find(*sources[s].mine, piece.span);
      } else {
        arrivals.push_back(Arrival{piece, s, operands[s].size()});
      }
      operands[s].push_back(Held{piece.span, slice});
    }
  }
  // Post first what comes first: the senders start with the rank that follows them.
  order_by(arrivals, [&](const Arrival& arrival) { return distance(arrival.piece.from, me, ranks); });
  for (const Arrival& arrival : arrivals) {
    const Slice extent = spi::ScheduleBuilder::in(block, arrival.piece.span.begin, arrival.piece.span.end);
    Slice& slice = operands[arrival.source][arrival.entry].slice;
    slice = sources[arrival.source].copied ? wire.recv_copied(arrival.piece.from, extent)
                                           : wire.recv_scratch(arrival.piece.from, extent);
  }
  return operands;
}

void reduce_segment(Wire& wire, const Interval& segment, const std::vector<Holding>& operands, const Slice& dst,
                    bool final_value, std::vector<std::size_t>& at) {
  std::vector<Slice> reads(operands.size());
  Fraction begin = segment.begin;
  while (begin < segment.end) {
    Fraction end = segment.end;
    for (std::size_t s = 0; s < operands.size(); ++s) {
      while (operands[s][at[s]].span.end <= begin) ++at[s];
      end = std::min(end, operands[s][at[s]].span.end);
    }
    for (std::size_t s = 0; s < operands.size(); ++s) reads[s] = cut(operands[s][at[s]].slice, Interval{begin, end});
    wire.builder().reduce(cut(dst, Interval{begin, end}), reads, final_value);
    begin = end;
  }
}

std::vector<Source> sources_of(const Tiers& tiers, const Unit& unit, int my_child, const Holding& mine) {
  std::vector<Source> sources;
  for (const int child : unit.children) {
    sources.push_back(Source{&tiers.unit(child).partition, child == my_child ? &mine : nullptr});
  }
  return sources;
}

Partition part_of(const Partition& partition, int rank) {
  Partition part;
  std::copy_if(partition.begin(), partition.end(), std::back_inserter(part),
               [&](const Segment& segment) { return segment.rank == rank; });
  return part;
}

Place in_scratch(Wire& wire) {
  return [&wire](const Interval& span) {
    return wire.builder().scratch(spi::ScheduleBuilder::in(0, span.begin, span.end));
  };
}

}  // namespace

Holding reduce_owned(Wire& wire, const Partition& owners, std::span<const Source> sources, const Place& place,
                     bool final_value, std::uint32_t block) {
  const std::vector<Holding> operands = collect(wire, owners, sources, block);
  Holding result;
  std::vector<std::size_t> at(operands.size(), 0);
  for (const Segment& segment : owners) {
    if (segment.rank != wire.rank()) continue;
    const Slice dst = place(segment.span);
    reduce_segment(wire, segment.span, operands, dst, final_value, at);
    result.push_back(Held{segment.span, dst});
  }
  return result;
}

void send_owned(Wire& wire, const Partition& owners, const Holding& mine) {
  const int me = wire.rank();
  const int ranks = wire.builder().ranks();
  std::vector<Piece> pieces;
  for (const Held& held : mine) {
    for (const Piece& piece : transfers(Partition{Segment{held.span, me}}, owners)) {
      if (piece.to != me) pieces.push_back(piece);
    }
  }
  order_by(pieces, [&](const Piece& piece) { return distance(me, piece.to, ranks); });
  for (const Piece& piece : pieces) wire.send(piece.to, find(mine, piece.span));
}

Holding climb(Wire& wire, const Tiers& tiers, const Slice& input, const Place* final_place) {
  const int me = wire.rank();
  Holding mine{Held{Interval{}, input}};
  for (const Tier level : tiers.levels()) {
    wire.phase(climb_name(tiers, level));
    const int id = tiers.unit_at(me, level);
    if (id < 0) continue;
    const Unit& unit = tiers.unit(id);
    const bool final_value = final_place != nullptr && level == tiers.levels().back();
    const Place place = final_value ? *final_place : in_scratch(wire);
    if (tiers.rings(unit)) {
      mine = ring_climb(wire, tiers, unit, mine, place, final_value);
      continue;
    }
    send_owned(wire, unit.partition, mine);
    const std::vector<Source> sources = sources_of(tiers, unit, tiers.below(me, level), mine);
    mine = reduce_owned(wire, unit.partition, sources, place, final_value);
  }
  return mine;
}

Holding exchange_regions(Wire& wire, const Tiers& tiers, const Holding& mine, const Place& final_place, int only) {
  const int home = tiers.region_of(wire.rank());
  const int count = static_cast<int>(tiers.regions().size());
  wire.phase(kExchangeName);
  const Partition& here = tiers.region(home).partition;
  std::vector<Source> sources;
  for (int k = 0; k < count; ++k) {
    sources.push_back(Source{&tiers.region(k).partition, k == home ? &mine : nullptr, true});
  }
  for (int k = 1; k < count && only < 0; ++k) {
    send_owned(wire, tiers.region((home + k) % count).partition, mine);
  }
  return reduce_owned(wire, here, sources, final_place, true);
}

void descend(Wire& wire, const Tiers& tiers, const Slice& output, int skip) {
  const int me = wire.rank();
  const auto levels = tiers.levels();
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    wire.phase(descend_name(tiers, *level));
    const int id = tiers.unit_at(me, *level);
    if (id < 0) continue;
    const Unit& unit = tiers.unit(id);
    if (tiers.rings(unit)) {
      ring_descend(wire, tiers, unit, output);
      continue;
    }
    const int ranks = wire.builder().ranks();
    const Partition mine = part_of(unit.partition, me);
    std::vector<Piece> sends;
    for (const int child : unit.children) {
      for (const Piece& piece : transfers(mine, tiers.unit(child).partition)) {
        if (piece.to != me && piece.to != skip) sends.push_back(piece);
      }
    }
    order_by(sends, [&](const Piece& piece) { return distance(me, piece.to, ranks); });
    for (const Piece& piece : sends) wire.send(piece.to, cut(output, piece.span));
    if (me == skip) continue;
    std::vector<Piece> recvs = transfers_to(unit.partition, tiers.unit(tiers.below(me, *level)).partition, me);
    std::erase_if(recvs, [&](const Piece& piece) { return piece.from == me; });
    order_by(recvs, [&](const Piece& piece) { return distance(piece.from, me, ranks); });
    for (const Piece& piece : recvs) wire.recv(piece.from, cut(output, piece.span));
  }
}

void add_flows(spi::Stage& stage, const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    if (piece.from != piece.to) stage.flows.push_back(spi::StageFlow{piece.from, piece.to, piece.span.length()});
  }
}

double largest_share(const Partition& partition) {
  std::unordered_map<int, double> shares;
  double most = 0;
  for (const Segment& segment : partition) most = std::max(most, shares[segment.rank] += segment.span.length());
  return most;
}

void add_climb(std::vector<spi::Stage>& stages, const Tiers& tiers) {
  for (const Tier level : tiers.levels()) {
    spi::Stage stage;
    stage.name = climb_name(tiers, level);
    for (const Unit& unit : tiers.units()) {
      if (unit.level != level) continue;
      if (tiers.rings(unit)) {
        add_ring_climb(stage, tiers, unit);
        continue;
      }
      for (const int child : unit.children) add_flows(stage, transfers(tiers.unit(child).partition, unit.partition));
      const double read = largest_share(unit.partition) * static_cast<double>(unit.children.size());
      stage.reduce_share = std::max(stage.reduce_share, read);
    }
    stages.push_back(std::move(stage));
  }
}

void add_exchange(std::vector<spi::Stage>& stages, const Tiers& tiers) {
  const int count = static_cast<int>(tiers.regions().size());
  spi::Stage stage;
  stage.name = kExchangeName;
  for (int from = 0; from < count; ++from) {
    for (int to = 0; to < count; ++to) {
      if (from != to) add_flows(stage, transfers(tiers.region(from).partition, tiers.region(to).partition));
    }
    stage.reduce_share = std::max(stage.reduce_share, largest_share(tiers.region(from).partition) * count);
  }
  stages.push_back(std::move(stage));
}

void add_descend(std::vector<spi::Stage>& stages, const Tiers& tiers, int skip) {
  const auto levels = tiers.levels();
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    spi::Stage stage;
    stage.name = descend_name(tiers, *level);
    for (const Unit& unit : tiers.units()) {
      if (unit.level != *level) continue;
      if (tiers.rings(unit)) {
        add_ring_descend(stage, tiers, unit);
        continue;
      }
      for (const int child : unit.children) {
        std::vector<Piece> pieces = transfers(unit.partition, tiers.unit(child).partition);
        std::erase_if(pieces, [&](const Piece& piece) { return piece.to == skip; });
        add_flows(stage, pieces);
      }
    }
    stages.push_back(std::move(stage));
  }
}

std::string climb_name(const Tiers& tiers, Tier level) {
  return std::string(name_of(level)) + (tiers.leaders() ? " reduce" : " reduce-scatter");
}

std::string descend_name(const Tiers& tiers, Tier level) {
  return std::string(name_of(level)) + (tiers.leaders() ? " broadcast" : " allgather");
}

}  // namespace longspan::hierarchical
