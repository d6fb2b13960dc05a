#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/clock_sync.hpp"
#include "harness/settings.hpp"
#include "longspan/communicator.hpp"

namespace longspan::perf {

/// Microseconds over the timed iterations; `median` is what the columns print.
struct Timing {
  double median = 0, min = 0, p90 = 0, p99 = 0;
  std::vector<double> samples;  ///< in the order in which they were taken
};
Timing summarise(std::vector<double> microseconds);

struct Side {
  bool measured = false;
  Timing timing;
  std::optional<std::uint64_t> wrong;  ///< nullopt: not checked
};

/// One of the groups that ran at the same time (--groups): from the agreed start until the last of its ranks had ended.
struct GroupTiming {
  Timing out_of_place, in_place;
};

/// One line of the table.
struct Row {
  std::size_t bytes = 0;
  std::size_t count = 0;
  DataType type = DataType::kFloat32;
  std::string_view op;
  int root = -1;
  double bus_factor = 1;
  Side out_of_place, in_place;
  std::vector<GroupTiming> groups;  ///< empty for one group
  double bound_us = -1;
  std::string bound_cut;
  std::string algorithm;
};

/// Prints nccl-tests' table with our columns, and writes the JSON file; rank 0 alone.
class Report {
 public:
  Report(std::string program, const Settings& settings, bool prints);
  ~Report();
  void begin(const Communicator& comm, const AlignedClock& clock);
  void add(const Row& row);
  /// Collective: sums up every rank's statistics of the WAN links for `end`.
  Status gather_links(Communicator& comm);
  void end(const Communicator& comm);
  /// 0 when nothing was wrong.
  int exit_code() const noexcept { return wrong_ == 0 ? 0 : 1; }

 private:
  void print_side(const Row& row, const Side& side) const;
  void print_groups(const Row& row) const;
  struct Json;

  std::string program_;
  const Settings& settings_;
  bool prints_;
  std::uint64_t wrong_ = 0;
  void print_links() const;

  std::vector<LinkStats> links_;
  double busbw_sum_ = 0;
  int busbw_count_ = 0;
  std::string last_cut_;
  std::unique_ptr<Json> json_;
};

}  // namespace longspan::perf
