#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <string>

#include "cli/commands.hpp"
#include "longspan/options.hpp"
#include "longspan/spi/algorithm.hpp"
#include "longspan/spi/registry.hpp"
#include "longspan/spi/transport.hpp"

namespace longspan::cli {
namespace {

void print_info() {
  fmt::print("Transports\n");
  for (const spi::Transport* transport : spi::all_transports()) {
    const spi::TransportCapabilities can = transport->capabilities();
    std::string notes;
    const auto note = [&notes](bool holds, const char* text) {
      if (holds) notes += (notes.empty() ? "" : ", ") + std::string(text);
    };
    note(can.host_local, "joins ranks of one host");
    note(can.peer_mapped, "reads peers' memory in place");
    note(can.wide_area, "paced, may cross regions");
    note(can.test_only, "for tests, only when named in LONGSPAN_TRANSPORTS");
    fmt::print("  {:<14} {}\n", transport->name(), notes);
  }
  fmt::print("\nAlgorithms\n ");
  for (const spi::Algorithm* algorithm : spi::all_algorithms()) fmt::print(" {}", algorithm->name());
  fmt::print("\n\nSettings: argument, then environment, then default\n{}", describe_options());
}

}  // namespace

void add_info(CLI::App& app, int& exit_code) {
  CLI::App* info = app.add_subcommand("info", "Transports, algorithms and settings of this build");
  info->callback([&exit_code] {
    print_info();
    exit_code = 0;
  });
}

}  // namespace longspan::cli
