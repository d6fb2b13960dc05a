// longspan explain: what would be planned, why, and what it would cost. Needs no network.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <span>
#include <string>

#include "cli/commands.hpp"
#include "cli/plan_request.hpp"
#include "longspan/options.hpp"
#include "longspan/spi/registry.hpp"
#include "longspan/spi/transport.hpp"
#include "planner/planner.hpp"
#include "planner/report.hpp"
#include "runtime/open_transports.hpp"

namespace longspan::cli {
namespace {

struct ExplainRequest {
  PlanRequest plan;
  bool json = false;
  std::string svg;
};

Status write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file ? Status() : Status(StatusCode::kSystem, fmt::format("cannot write {}", path));
}

/// Asks the transports what they would make of each link, by the same function that their channels use.
Status ask_transports(planner::Explanation& explanation, const Options& options) {
  const auto allowed = [&](const spi::Transport& transport) {
    if (!options.transports || options.transports->empty()) return !transport.capabilities().test_only;
    return std::find(options.transports->begin(), options.transports->end(), transport.name()) !=
           options.transports->end();
  };
  spi::EndpointOptions endpoint;
  endpoint.congestion_control = options.congestion_control.value_or("");
  for (planner::LinkConnections& group : explanation.connections) {
    spi::ChannelOptions channel;
    channel.tier = Tier::kWan;
    channel.lanes = group.channel.lanes;
    channel.rate_bytes_per_second = group.channel.rate_bytes_per_second;
    channel.window_bytes = group.channel.window_bytes;
    channel.rtt = std::chrono::nanoseconds(static_cast<std::int64_t>(group.channel.rtt_seconds * 1e9));
    channel.loss = group.channel.loss;
    for (const spi::Transport* transport : spi::all_transports()) {
      if (!transport->capabilities().wide_area || !allowed(*transport)) continue;
      const auto choice = transport->choose_path(endpoint, channel);
      if (!choice) continue;
      group.transport = transport->name();
      group.congestion_control = choice->congestion_control;
      group.lanes = choice->lanes;
      group.repair_lanes = choice->repair_lanes;
      group.express_lanes = choice->express_lanes;
      group.reasons.insert(group.reasons.end(), choice->reasons.begin(), choice->reasons.end());
      break;
    }
  }
  return {};
}

Status explain(const ExplainRequest& request) {
  LONGSPAN_ASSIGN(Cluster cluster, request.plan.cluster());
  LONGSPAN_ASSIGN(const CollectiveShape shape, request.plan.shape());
  LONGSPAN_ASSIGN(const std::size_t bytes, request.plan.block_bytes(shape, cluster.size()));
  LONGSPAN_ASSIGN(const Options options, resolve({}));
  LONGSPAN_ASSIGN(const auto offers, runtime::survey_transports(options));
  auto tiers = planner::transports_by_tier(cluster, std::span(&offers, 1));
  planner::PlannerOptions planner_options{request.plan.algorithm, {}};
  planner::apply(tiers, planner_options.parameters);
  planner::Planner planner(std::move(cluster), spi::all_algorithms(), std::move(planner_options));
  LONGSPAN_ASSIGN(planner::Explanation explanation, planner.explain(shape, bytes));
  explanation.transports = std::move(tiers);
  LONGSPAN_TRY(ask_transports(explanation, options));
  fmt::print("{}", request.json ? planner::to_json(explanation, planner.cluster())
                                : planner::describe(explanation, planner.cluster()));
  if (request.svg.empty()) return {};
  return write_file(request.svg, planner::topology_svg(planner.cluster(), explanation));
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("explain",
                                         "Print the plan for a collective, its predicted time per phase, the bytes per "
                                         "link, the bound, and the rejected candidates");
  auto request = std::make_shared<ExplainRequest>();  // second owner: the callback, which runs after this returns
  request->plan.add_to(*command);
  command->add_flag("--json", request->json, "JSON instead of a page");
  command->add_option("--svg", request->svg, "Also draw the topology with the plan's bytes per link into this file");
  command->callback([request, &exit_code] {
    const Status done = explain(*request);
    exit_code = done.ok() ? 0 : report(done);
  });
}

}  // namespace longspan::cli
