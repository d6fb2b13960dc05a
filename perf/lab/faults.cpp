#include "lab/faults.hpp"

#include <fmt/format.h>

#include <charconv>
#include <sstream>

#include "base/units.hpp"

namespace longspan::lab {
namespace {

struct Fault {
  std::optional<Duration> at;
  std::optional<Duration> lasts;
  std::optional<Duration> down;
  std::optional<Bandwidth> rate;
  std::optional<double> loss;
  std::optional<Duration> delay;
  int from = -1;
  int to = -1;
  bool both = false;
};

Status bad(std::string_view word, std::string_view expected) {
  return Status(StatusCode::kInvalidArgument, fmt::format("found \"{}\", expected {}", word, expected));
}

int region_named(const Topology& topology, std::string_view name) {
  for (std::size_t i = 0; i < topology.regions.size(); ++i) {
    if (topology.regions[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

Status read_regions(std::string_view word, std::string_view value, const Topology& topology, Fault* fault) {
  const std::size_t colon = value.find(':');
  if (colon == std::string_view::npos) return bad(word, "wan=FROM:TO with two regions of the topology");
  fault->from = region_named(topology, value.substr(0, colon));
  fault->to = region_named(topology, value.substr(colon + 1));
  if (fault->from >= 0 && fault->to >= 0) return {};
  std::string names;
  for (const Group& region : topology.regions) names += (names.empty() ? "" : ", ") + region.name;
  return bad(word, "wan=FROM:TO with two of the regions " + names);
}

Status read_duration(std::string_view word, std::string_view value, std::optional<Duration>* out) {
  const auto time = parse_time(value);
  if (!time.ok()) return bad(word, "a time such as 2s, 150ms or 50us after the \"=\"");
  *out = std::chrono::duration_cast<Duration>(*time);
  return {};
}

Status read_word(std::string_view word, const Topology& topology, Fault* fault) {
  if (word == "both") {
    fault->both = true;
    return {};
  }
  const std::size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? std::string_view() : word.substr(equals + 1);
  if (key == "at") return read_duration(word, value, &fault->at);
  if (key == "for") return read_duration(word, value, &fault->lasts);
  if (key == "down") return read_duration(word, value, &fault->down);
  if (key == "delay") return read_duration(word, value, &fault->delay);
  if (key == "wan") return read_regions(word, value, topology, fault);
  if (key == "rate") {
    const auto rate = parse_bandwidth(value);
    if (!rate.ok() || rate.value().bytes_per_second <= 0)
      return bad(word, "a rate above 0 such as 100Mbit/s after the \"=\"");
    fault->rate = *rate;
    return {};
  }
  if (key == "loss") {
    double loss = -1;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), loss);
    const bool whole = error == std::errc() && end == value.data() + value.size();
    if (!whole || !(loss >= 0 && loss < 1)) return bad(word, "loss=P with 0 <= P < 1");
    fault->loss = loss;
    return {};
  }
  return bad(word, "at=TIME, wan=FROM:TO, down=TIME, rate=BANDWIDTH, loss=P, delay=TIME, for=TIME or both");
}

Status check(const std::string& text, const Fault& fault) {
  const int kinds = int{fault.down.has_value()} + int{fault.rate.has_value()} + int{fault.loss.has_value()} +
                    int{fault.delay.has_value()};
  if (!fault.at) return bad(text, "at=TIME in it");
  if (fault.from < 0) return bad(text, "wan=FROM:TO in it");
  if (kinds == 0) return bad(text, "one of down=TIME, rate=BANDWIDTH, loss=P, delay=TIME in it");
  if (fault.down && (kinds > 1 || fault.lasts)) return bad(text, "down=TIME by itself: its time says how long");
  return {};
}

void add_changes(const Fault& fault, std::size_t index, const Topology& topology, std::vector<LinkChange>* changes) {
  const WanLink& link = topology.wan[index];
  // A link's delay includes what its regions' uplinks add (Wan::make_links).
  const Latency uplinks = topology.regions[static_cast<std::size_t>(link.from)].uplink_latency +
                          topology.regions[static_cast<std::size_t>(link.to)].uplink_latency;
  LinkChange change;
  change.at = *fault.at;
  change.link = index;
  if (fault.down) change.down = true;
  change.rate = fault.rate;
  change.loss = fault.loss;
  if (fault.delay) change.delay = *fault.delay + std::chrono::duration_cast<Duration>(uplinks);
  changes->push_back(change);
  const std::optional<Duration> lasts = fault.down ? fault.down : fault.lasts;
  if (!lasts) return;
  LinkChange undo;
  undo.at = *fault.at + *lasts;
  undo.link = index;
  if (fault.down) undo.down = false;
  if (fault.rate) undo.rate = link.bandwidth;
  if (fault.loss) undo.loss = link.loss;
  if (fault.delay) undo.delay = std::chrono::duration_cast<Duration>(link.latency + uplinks);
  changes->push_back(undo);
}

}  // namespace

Result<std::vector<LinkChange>> parse_fault(const std::string& text, const Topology& topology) {
  Fault fault;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const Status status = read_word(word, topology, &fault);
    if (!status.ok()) return status.with_context(fmt::format("fault \"{}\"", text));
  }
  const Status status = check(text, fault);
  if (!status.ok()) return status.with_context("fault");
  std::vector<LinkChange> changes;
  for (std::size_t i = 0; i < topology.wan.size(); ++i) {
    const WanLink& link = topology.wan[i];
    const bool forth = link.from == fault.from && link.to == fault.to;
    const bool back = fault.both && link.from == fault.to && link.to == fault.from;
    if (forth || back) add_changes(fault, i, topology, &changes);
  }
  if (changes.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("fault \"{}\": {} has no link between these regions", text, topology.source));
  }
  return changes;
}

}  // namespace longspan::lab
