#include <fmt/core.h>

#include <cstdio>

#include "cli/commands.hpp"

namespace longspan::cli {

int report(const Status& failure) {
  fmt::print(stderr, "longspan: {}\n", failure.message());
  return 1;
}

}  // namespace longspan::cli
