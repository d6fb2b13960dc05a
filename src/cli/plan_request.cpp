#include "cli/plan_request.hpp"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <string_view>

#include "planner/report.hpp"

namespace longspan::cli {
namespace {

/// 65536, 64K, 64KiB, 1G: powers of 1024, as nccl-tests reads sizes.
Result<std::size_t> parse_size(std::string_view text) {
  const Status wrong(
      StatusCode::kInvalidArgument,
      fmt::format("--size {}: expected bytes with an optional K, M, G or T (powers of 1024), such as 64M", text));
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return wrong;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  int shift = 0;
  if (!unit.empty() && unit != "B") {
    const std::size_t power = std::string_view("KMGT").find(unit.front() == 'k' ? 'K' : unit.front());
    unit.remove_prefix(1);
    if (power == std::string_view::npos || (!unit.empty() && unit != "B" && unit != "iB")) return wrong;
    shift = 10 * (static_cast<int>(power) + 1);
  }
  if (number > (UINT64_MAX >> 1) >> shift) return wrong;
  return static_cast<std::size_t>(number << shift);
}

}  // namespace

void PlanRequest::add_to(CLI::App& command) {
  command.add_option("--topology", topology, "Topology file (docs/topology.md)")->required();
  command
      .add_option("--collective", collective,
                  "allreduce, allgather, reduce_scatter, broadcast, reduce, gather, scatter, alltoall or barrier")
      ->capture_default_str();
  command.add_option("--size", size, "Bytes of the larger buffer of one rank; K, M, G are powers of 1024")
      ->capture_default_str();
  command.add_option("--algorithm", algorithm,
                     "Force one: name, name:variant, or collective=name, separated by commas");
  command.add_option("--ranks-per-host", ranks_per_host, "Ranks on every host")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  command.add_option("--root", root, "Root of broadcast, reduce, gather and scatter")->capture_default_str();
}

Result<Cluster> PlanRequest::cluster() const {
  LONGSPAN_ASSIGN(Topology loaded, load_topology(topology));
  return place_in_order(std::move(loaded), ranks_per_host);
}

Result<CollectiveShape> PlanRequest::shape() const {
  const auto kind = parse_collective(collective);
  if (!kind) {
    std::string known;
    for (int k = 0; k < kCollectiveCount; ++k)
      known += fmt::format("{}{}", k == 0 ? "" : ", ", name_of(static_cast<Collective>(k)));
    return Status(StatusCode::kInvalidArgument, fmt::format("--collective {}: expected one of {}", collective, known));
  }
  CollectiveShape made;
  made.kind = *kind;
  made.root = root;
  return made;
}

Result<std::size_t> PlanRequest::block_bytes(const CollectiveShape& shape, int ranks) const {
  LONGSPAN_ASSIGN(const std::size_t buffer, parse_size(size));
  if (has_root(shape.kind) && (shape.root < 0 || shape.root >= ranks)) {
    return Status(StatusCode::kInvalidArgument, fmt::format("--root {}: ranks are 0 to {}", shape.root, ranks - 1));
  }
  return planner::block_bytes_of(shape, ranks, buffer);
}

}  // namespace longspan::cli
