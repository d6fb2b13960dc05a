#pragma once

#include <string_view>

#include "harness.hpp"
#include "support/catch.hpp"

namespace longspan::conformance {

/// Every transport of this build, one after the other.
spi::Transport& each_transport();
/// Says why a case does not apply and is skipped.
void skip(const spi::Transport& transport, std::string_view why);

}  // namespace longspan::conformance
