#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "planner/forced.hpp"
#include "planner/planner.hpp"

namespace longspan::planner {

/// An algorithm's variant, for one shape.
struct Planner::Candidate {
  const spi::Algorithm* algorithm = nullptr;
  std::string variant;
  std::size_t flow_count = 0;
  bool profiled = false;
  std::optional<Profile> profile;  ///< when profiled, and the topology has the links for it
  Status error;                    ///< why there is none
  std::optional<bool> chunkable;
  std::unique_ptr<RateTable> rates;

  std::string full_name() const {
    const std::string name(algorithm->name());
    return variant.empty() ? name : name + ":" + variant;
  }
};

/// A candidate's best price for one size. `seconds` < 0: too many flows to price.
struct Planner::Priced {
  Candidate* candidate = nullptr;
  std::uint32_t chunks = 1;
  double seconds = -1;
  double busy_seconds = 0;   ///< of the busiest resource
  double local_seconds = 0;  ///< of the busiest that is no WAN link
};

/// What is remembered for one shape.
struct Planner::ShapeState {
  CollectiveShape shape;
  Forced forced;
  std::vector<std::unique_ptr<Candidate>> candidates;
  std::map<std::size_t, Decision> decisions;                                 ///< by size bucket
  std::map<std::pair<std::size_t, int>, std::shared_ptr<const Plan>> plans;  ///< by size bucket and rank
};

}  // namespace longspan::planner
