// longspan topo FILE: the tree of a topology file, its links, and what was defaulted. topo --discover: the file's part
// that describes this host.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "cli/commands.hpp"
#include "cli/discover.hpp"
#include "inventory/inventory.hpp"
#include "longspan/topology.hpp"
#include "topology/print.hpp"

namespace longspan::cli {
namespace {

int print_topology(const std::string& path) {
  const auto topology = load_topology(path);
  if (!topology.ok()) return report(topology.status());
  fmt::print("{}", describe_topology(*topology));
  std::fflush(stdout);  // before the warnings, also where both go to one file
  for (const std::string& warning : warnings_of(*topology)) fmt::print(stderr, "warning: {}\n", warning);
  return 0;
}

Status discover(const DiscoverRequest& request) {
  LONGSPAN_ASSIGN(const device::Inventory inventory,
                  request.xml.empty() ? device::this_host() : device::from_xml(request.xml));
  LONGSPAN_ASSIGN(const std::string text, discovered_file(inventory, request));
  fmt::print("{}", text);
  return {};
}

struct TopoRequest {
  std::string path;
  bool discover = false;
  DiscoverRequest found;
};

}  // namespace

void add_topo(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("topo",
                         "Check a topology file and print its tree, its links and its defaults; or write "
                         "the part of one that describes this host");
  auto request = std::make_shared<TopoRequest>();  // second owner: the callback, which runs after this returns
  CLI::Option* file = command->add_option("FILE", request->path, "Topology file (docs/topology.md)");
  CLI::Option* discover_this = command
                                   ->add_flag("--discover", request->discover,
                                              "Print a topology file of this host, as far as it can be found out")
                                   ->excludes(file);
  const auto option = [&](const char* name, std::string& value, const char* help) {
    command->add_option(name, value, help)->needs(discover_this);
  };
  option("--hwloc-xml", request->found.xml, "Of the machine in this file of hwloc (lstopo --of xml), not of this one");
  option("--name", request->found.name, "The host's name");
  option("--nic", request->found.nic, "The network card that others reach it by");
  option("--region", request->found.region, "Its region");
  option("--site", request->found.site, "Its site");
  option("--rack", request->found.rack, "Its rack");
  command->callback([request, &exit_code] {
    if (!request->discover && request->path.empty()) throw CLI::RequiredError("FILE or --discover");
    if (!request->discover) {
      exit_code = print_topology(request->path);
      return;
    }
    const Status done = discover(request->found);
    exit_code = done.ok() ? 0 : report(done);
  });
}

}  // namespace longspan::cli
