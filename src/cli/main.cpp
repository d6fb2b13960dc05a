#include <CLI/CLI.hpp>

#include "cli/commands.hpp"

int main(int argc, char* argv[]) {
  CLI::App app("Topology-aware collectives across racks, sites and regions");
  app.name("longspan");
  app.require_subcommand(1);
  int exit_code = 0;
  longspan::cli::add_topo(app, exit_code);
  longspan::cli::add_explain(app, exit_code);
  longspan::cli::add_plan(app, exit_code);
  longspan::cli::add_info(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11's own codes are 100 and up; a wrong command line is 2, as for most tools, and --help is 0.
    return app.exit(error) == 0 ? 0 : 2;
  }
  return exit_code;
}
