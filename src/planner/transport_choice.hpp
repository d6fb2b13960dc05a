#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/spi/endpoint_traits.hpp"
#include "longspan/types.hpp"

namespace longspan::planner {

/// One transport as a rank has it: what its endpoint is, or why there is none. The bootstrap tells every rank.
struct EndpointOffer {
  std::string transport;
  spi::EndpointTraits traits;
  /// No farther, whatever is named: it joins one host only, or may not leave the region in clear.
  Tier limit = Tier::kWan;
  bool named = false;       ///< in that rank's LONGSPAN_TRANSPORTS
  std::string unusable;     ///< why that rank cannot use it; empty: its endpoint is open
};

/// A transport that was not taken, and why.
struct PassedOver {
  std::string transport;
  std::string reason;
};

/// How two ranks talk to each other.
struct TransportChoice {
  std::string transport;       ///< empty: nothing joins them
  std::string reason;
  /// Of both ends together: the slower rate, the longer latency; 0 where one does not know.
  spi::EndpointTraits traits;
  std::vector<PassedOver> passed;
};

/// The transport of a pair of ranks at `tier`. Both ends compute the same one: it depends on the two sets of offers
/// only, not on their order nor on which side asks; reasons speak of `side` and `other`.
///
/// Of what both have open and what reaches that far, the better medium is taken; in the same medium the lower
/// preference, the higher stated rate, the lower stated latency, the name. Another one is taken all the same where both
/// rates are stated and its is 1.5 times as high. What reaches that far by itself comes before what does because it was
/// named.
TransportChoice choose_transport(std::span<const EndpointOffer> mine, std::span<const EndpointOffer> theirs, Tier tier,
                                 std::string_view side = "this rank", std::string_view other = "the other rank");

/// "memory", "links between devices", "RDMA", "IP".
std::string_view name_of(spi::Medium medium) noexcept;

}  // namespace longspan::planner
