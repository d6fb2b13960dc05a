#include <fmt/format.h>

#include <set>

#include "schedule/check_parts.hpp"

namespace longspan::checking {
namespace {

/// The elements of two neighbouring parts must join, and all together must be the block.
Status parts_cover(const Grid& grid, std::size_t count, std::uint32_t chunks, std::size_t element_size) {
  std::size_t at = 0;
  for (std::uint32_t c = 0; c < chunks; ++c) {
    for (std::uint32_t s = 0; s < grid.segments(); ++s) {
      const ElementRange part = elements_of(grid.edge(s), grid.edge(s + 1), count, c, chunks, element_size);
      if (part.offset != at && part.length != 0) {
        return defect(fmt::format("{} elements of {} bytes in {} chunks: part {} of chunk {} starts at {}, expected {}",
                                  count, element_size, chunks, s, c, part.offset, at));
      }
      at += part.length;
    }
  }
  if (at == count) return {};
  return defect(
      fmt::format("{} elements of {} bytes in {} chunks: the parts hold {}", count, element_size, chunks, at));
}

/// A message as its two ends see it.
struct Ends {
  Slice sent;
  Slice received;
  std::uint32_t sent_class, received_class;

  auto key() const {
    return std::tuple(sent.begin.num, sent.begin.den, sent.end.num, sent.end.den, sent_class, received.begin.num,
                      received.begin.den, received.end.num, received.end.den, received_class);
  }
  friend bool operator<(const Ends& a, const Ends& b) { return a.key() < b.key(); }
};

std::set<Ends> distinct_messages(const Program& program) {
  std::set<Ends> found;
  for (const StepRef at : program.order) {
    const Step& s = program.step(at);
    if (s.kind != StepKind::kSend || s.signal) continue;
    const Schedule& from = program.ranks[at.rank];
    const Schedule& to = program.ranks[static_cast<std::size_t>(s.peer)];
    const Slice& source = operands(from, s)[0].slice;
    const Slice& dst = to.steps[program.other_end[at.rank][at.step]].dst;
    for (std::uint32_t i = 0; i < source.blocks; ++i) {
      found.insert(Ends{source, dst, length_class_of(from, source, i), length_class_of(to, dst, i)});
    }
  }
  return found;
}

std::vector<std::size_t> default_counts(std::size_t ranks) {
  return {0, 1, ranks - 1, ranks, ranks + 1, 97, 1009, 65'537};
}

}  // namespace

Status check_counts(const Program& program, const Grid& grid, const CheckOptions& options) {
  const auto counts = options.counts.empty() ? default_counts(program.ranks.size()) : options.counts;
  const std::set<Ends> messages = distinct_messages(program);
  const bool chunkable = program.ranks[0].chunkable;
  for (const std::uint32_t chunks : {1u, 2u, 7u}) {
    if (chunks > 1 && !chunkable) break;
    for (const std::size_t size : {std::size_t{1}, std::size_t{4}, std::size_t{8}}) {
      for (const std::size_t count : counts) {
        LONGSPAN_TRY(parts_cover(grid, count, chunks, size));
        for (const Ends& m : messages) {
          // Blocks of different classes differ in length.
          const auto sent = elements_of(m.sent.begin, m.sent.end, count + m.sent_class, 0, chunks, size);
          const auto got = elements_of(m.received.begin, m.received.end, count + m.received_class, 0, chunks, size);
          if (sent.length != got.length) {
            return defect(
                fmt::format("for {} elements of {} bytes in {} chunks a message has {} elements at its sender "
                            "and {} at its receiver",
                            count, size, chunks, sent.length, got.length));
          }
        }
      }
    }
  }
  return {};
}

}  // namespace longspan::checking
