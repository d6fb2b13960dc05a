#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cli/commands.hpp"
#include "inventory/inventory.hpp"
#include "longspan/options.hpp"
#include "longspan/spi/algorithm.hpp"
#include "longspan/spi/registry.hpp"
#include "longspan/spi/transport.hpp"
#include "planner/text.hpp"
#include "runtime/open_transports.hpp"

namespace longspan::cli {
namespace {

/// "usable: memory" or "not usable: no RDMA device".
std::string usable_here(std::span<const planner::EndpointOffer> offers, std::string_view transport) {
  for (const planner::EndpointOffer& offer : offers) {
    if (offer.transport != transport) continue;
    if (!offer.unusable.empty()) return "not usable here: " + offer.unusable;
    std::string text = "usable here: " + std::string(planner::name_of(offer.traits.medium));
    if (offer.traits.rate_bytes_per_second > 0) text += ", " + planner::rate_text(offer.traits.rate_bytes_per_second);
    return offer.traits.detail.empty() ? text : text + ", " + offer.traits.detail;
  }
  return {};
}

Status print_info(int ranks) {
  LONGSPAN_ASSIGN(const Options options, resolve({}));
  LONGSPAN_ASSIGN(const auto offers, runtime::survey_transports(options));
  fmt::print("Transports\n");
  for (const spi::Transport* transport : spi::all_transports()) {
    const spi::TransportCapabilities can = transport->capabilities();
    std::string notes = usable_here(offers, transport->name());
    const auto note = [&notes](bool holds, const char* text) {
      if (holds) notes += (notes.empty() ? "" : "; ") + std::string(text);
    };
    note(can.host_local, "joins ranks of one host");
    note(can.peer_mapped, "reads peers' memory in place");
    note(can.wide_area, "paced, may cross regions");
    note(can.test_only, "for tests, only when named in LONGSPAN_TRANSPORTS");
    fmt::print("  {:<14} {}\n", transport->name(), notes);
  }
  if (const auto inside = device::this_host(); inside.ok()) {
    fmt::print("\n{}", device::describe(*inside));
    if (ranks > 0) fmt::print("\n{}", device::describe(device::place_ranks(*inside, ranks)));
  } else {
    fmt::print("\nHost\n  not known: {}\n", inside.status().message());
  }
  fmt::print("\nAlgorithms\n ");
  for (const spi::Algorithm* algorithm : spi::all_algorithms()) fmt::print(" {}", algorithm->name());
  fmt::print("\n\nSettings: argument, then environment, then default\n{}", describe_options());
  return {};
}

}  // namespace

void add_info(CLI::App& app, int& exit_code) {
  CLI::App* info =
      app.add_subcommand("info", "Transports, algorithms and settings of this build, and what is inside this host");
  auto ranks = std::make_shared<int>(0);  // second owner: the callback, which runs after this returns
  info->add_option("--ranks", *ranks,
                   "Also where that many ranks of this host run best: NUMA node, processing units, GPU and NIC")
      ->check(CLI::Range(1, 4096));
  info->callback([ranks, &exit_code] {
    const Status done = print_info(*ranks);
    exit_code = done.ok() ? 0 : report(done);
  });
}

}  // namespace longspan::cli
