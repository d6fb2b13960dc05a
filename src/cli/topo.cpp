// longspan topo FILE: the tree of a topology file, its links, and what was defaulted.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "cli/commands.hpp"
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

}  // namespace

void add_topo(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("topo", "Check a topology file and print its tree, its links and its defaults");
  auto path = std::make_shared<std::string>();  // second owner: the callback, which runs after this returns
  command->add_option("FILE", *path, "Topology file (docs/topology.md)")->required();
  command->callback([path, &exit_code] { exit_code = print_topology(*path); });
}

}  // namespace longspan::cli
