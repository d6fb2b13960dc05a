#pragma once

#include <span>

namespace longspan::spi {

class Algorithm;
class Transport;

/// Every algorithm in this build, in the order of algorithms/CMakeLists.txt.
std::span<const Algorithm* const> all_algorithms();
/// Every transport in this build, in the order of transports/CMakeLists.txt.
std::span<Transport* const> all_transports();

}  // namespace longspan::spi
