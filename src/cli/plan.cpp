// longspan plan --print: one rank's schedule, step by step. Needs no network.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/plan_request.hpp"
#include "longspan/spi/registry.hpp"
#include "planner/planner.hpp"
#include "planner/text.hpp"
#include "schedule/export.hpp"

namespace longspan::cli {
namespace {

struct PrintRequest {
  PlanRequest plan;
  int rank = 0;
  bool print = false;
  bool json = false;
};

void print_header(const Plan& plan, const Cluster& cluster) {
  const Decision& decision = plan.decision;
  fmt::print("# {} {}: {} chunks, {} in flight, digest {:016x}\n# {}\n", name_of(decision.shape.kind),
             decision.full_name(), decision.chunks, decision.window, decision.digest,
             cluster.describe(plan.schedule.rank));
  for (std::size_t c = 0; c < plan.channels.size(); ++c) {
    const ChannelPlan& use = plan.channels[c];
    const bool paced = use.rate_bytes_per_second > 0;
    fmt::print(
        "# channel {} to {}: {}, {}, window {}, lanes {}\n", c, cluster.describe(plan.schedule.channels[c].peer),
        name_of(plan.schedule.channels[c].tier), paced ? planner::rate_text(use.rate_bytes_per_second) : "unpaced",
        use.window_bytes > 0 ? planner::bytes_text(static_cast<double>(use.window_bytes)) : "default", use.lanes);
  }
}

Status print_plan(const PrintRequest& request) {
  LONGSPAN_ASSIGN(Cluster cluster, request.plan.cluster());
  LONGSPAN_ASSIGN(const CollectiveShape shape, request.plan.shape());
  LONGSPAN_ASSIGN(const std::size_t bytes, request.plan.block_bytes(shape, cluster.size()));
  planner::Planner planner(std::move(cluster), spi::all_algorithms(), {request.plan.algorithm, {}});
  LONGSPAN_ASSIGN(const auto plan, planner.plan_for(shape, bytes, request.rank));
  if (request.json) {
    fmt::print("{}\n", to_json(plan->schedule));
    return {};
  }
  print_header(*plan, planner.cluster());
  fmt::print("{}", to_text(plan->schedule));
  return {};
}

}  // namespace

void add_plan(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("plan", "Print one rank's schedule");
  auto request = std::make_shared<PrintRequest>();  // second owner: the callback, which runs after this returns
  request->plan.add_to(*command);
  command->add_option("--rank", request->rank, "Whose schedule")->capture_default_str();
  command->add_flag("--print", request->print, "Print it (the default, and so far the only action)");
  command->add_flag("--json", request->json, "JSON instead of text");
  command->callback([request, &exit_code] {
    const Status done = print_plan(*request);
    exit_code = done.ok() ? 0 : report(done);
  });
}

}  // namespace longspan::cli
