#include <CLI/CLI.hpp>
#include <string>

#include "cli/commands.hpp"
#include "support/catch.hpp"

using namespace longspan;

namespace {

int run_topo(const std::string& file) {
  CLI::App app;
  int exit_code = -1;
  cli::add_topo(app, exit_code);
  app.parse("topo " + file);
  return exit_code;
}

}  // namespace

TEST_CASE("longspan topo succeeds for a sound file and fails with 1 for a bad or missing one") {
  CHECK(run_topo(LONGSPAN_SAMPLES "/two_regions.toml") == 0);
  CHECK(run_topo(LONGSPAN_SAMPLES "/../CMakeLists.txt") == 1);
  CHECK(run_topo("no-such-file.toml") == 1);
}
