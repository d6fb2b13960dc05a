#pragma once

#include "longspan/status.hpp"

namespace CLI {
class App;
}

namespace longspan::cli {

// One file per subcommand. Each function adds its subcommand; its callback puts the exit code of the program into
// `exit_code`, which outlives the parsing.
void add_topo(CLI::App& app, int& exit_code);
void add_explain(CLI::App& app, int& exit_code);
void add_plan(CLI::App& app, int& exit_code);
void add_info(CLI::App& app, int& exit_code);

/// Says on stderr why a subcommand failed; returns the exit code for that, 1.
int report(const Status& failure);

}  // namespace longspan::cli
