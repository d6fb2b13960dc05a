#include "cases.hpp"

#include <fmt/format.h>

#include "longspan/spi/registry.hpp"

namespace longspan::conformance {

spi::Transport& each_transport() {
  const auto all = spi::all_transports();
  const auto index = GENERATE_REF(range(std::size_t{0}, all.size()));
  return *all[index];
}

void skip(const spi::Transport& transport, std::string_view why) {
  fmt::print("conformance: {} skips \"{}\": {}\n", transport.name(),
             Catch::getResultCapture().getCurrentTestName(), why);
  SUCCEED("skipped");
}

}  // namespace longspan::conformance
