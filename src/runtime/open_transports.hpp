#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "longspan/options.hpp"
#include "longspan/spi/transport.hpp"
#include "longspan/status.hpp"
#include "planner/transport_choice.hpp"

namespace longspan::runtime {

/// A transport of this build on this host: open, or with the reason why not.
struct OpenTransport {
  spi::Transport* transport = nullptr;
  std::unique_ptr<spi::Endpoint> endpoint;  ///< nullptr: see offer.unusable
  planner::EndpointOffer offer;
};

/// Opens what may be used. `named`: LONGSPAN_TRANSPORTS, empty: all that are not for tests only. What this host cannot
/// use (Transport::open says kUnsupported) is left out with its reason, unless it is named: then that is the error, as
/// is a name that this build does not have.
Result<std::vector<OpenTransport>> open_transports(std::span<spi::Transport* const> transports,
                                                   const std::vector<std::string>& named,
                                                   const spi::EndpointOptions& options);

/// The same for people: each is opened for a moment, and an error of one becomes its reason. Fails only where `options`
/// (as resolved) name a transport that this build does not have, or a key that cannot be read.
Result<std::vector<planner::EndpointOffer>> survey_transports(const Options& options);

}  // namespace longspan::runtime
