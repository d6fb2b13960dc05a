#include "harness/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

namespace longspan::perf {
namespace {

/// More iterations than this are told by their quantiles alone.
constexpr std::size_t kSamplesWritten = 1000;

double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

double algbw(const Row& row, const Timing& timing) {
  return timing.median > 0 ? static_cast<double>(row.bytes) / timing.median / 1e3 : 0;  // bytes per us / 1000 = GB/s
}

double percent_of_bound(const Row& row) {
  const Timing& timing = row.out_of_place.timing;
  return row.bound_us < 0 || timing.median <= 0 ? -1 : 100.0 * row.bound_us / timing.median;
}

nlohmann::ordered_json side_json(const Row& row, const Side& side) {
  nlohmann::ordered_json json;
  json["time_us"] = side.timing.median;
  json["min_us"] = side.timing.min;
  json["p90_us"] = side.timing.p90;
  json["p99_us"] = side.timing.p99;
  if (side.timing.samples.size() <= kSamplesWritten) json["samples_us"] = side.timing.samples;
  json["algbw_GBps"] = algbw(row, side.timing);
  json["busbw_GBps"] = algbw(row, side.timing) * row.bus_factor;
  json["wrong"] = side.wrong ? nlohmann::ordered_json(*side.wrong) : nlohmann::ordered_json(nullptr);
  return json;
}

nlohmann::ordered_json group_json(const Row& row, const Timing& timing) {
  if (timing.samples.empty()) return nullptr;
  return {{"time_us", timing.median}, {"min_us", timing.min}, {"p90_us", timing.p90}, {"p99_us", timing.p99},
          {"bytes", row.bytes},       {"algbw_GBps", algbw(row, timing)}};
}

/// 1: all groups are equally fast; else the slowest one's speed, as a share of the fastest one's.
double fairness(const std::vector<GroupTiming>& groups) {
  double fastest = 0;
  double slowest = 0;
  for (const GroupTiming& group : groups) {
    const double time = group.out_of_place.median;
    fastest = fastest == 0 ? time : std::min(fastest, time);
    slowest = std::max(slowest, time);
  }
  return slowest > 0 ? fastest / slowest : 1;
}

}  // namespace

struct Report::Json {
  nlohmann::ordered_json root;
};

Timing summarise(std::vector<double> microseconds) {
  std::vector<double> sorted = microseconds;
  std::sort(sorted.begin(), sorted.end());
  return Timing{quantile(sorted, 0.5), sorted.front(), quantile(sorted, 0.9), quantile(sorted, 0.99),
                std::move(microseconds)};
}

Report::Report(std::string program, const Settings& settings, bool prints)
    : program_(std::move(program)), settings_(settings), prints_(prints), json_(std::make_unique<Json>()) {}

Report::~Report() = default;

void Report::begin(const Communicator& comm, const AlignedClock& clock) {
  if (!prints_) return;
  json_->root["program"] = program_;
  json_->root["world_size"] = comm.size();
  json_->root["plan"] = nullptr;
  json_->root["memory"] = settings_.heap ? "heap" : "alloc";
  json_->root["clock_alignment_error_us"] = static_cast<double>(clock.error_ns()) / 1e3;
  json_->root["longest_rtt_us"] = static_cast<double>(clock.longest_rtt_ns()) / 1e3;
  json_->root["results"] = nlohmann::ordered_json::array();
  fmt::print("# {}: {} ranks, {} warm-up and {} timed iterations, aligned clocks (error {:.1f} us), {} memory\n",
             program_, comm.size(), settings_.warmup, settings_.iterations, static_cast<double>(clock.error_ns()) / 1e3,
             settings_.heap ? "heap" : "alloc()");
  for (int r = 0; r < std::min(comm.size(), 64); ++r) fmt::print("#  {}\n", comm.describe(r));
  fmt::print("#\n#{:>12} {:>12} {:>9} {:>7} {:>5}  {:>39}  {:>39}\n", "", "", "", "", "", "out-of-place             ",
             "in-place               ");
  fmt::print("#{:>12} {:>12} {:>9} {:>7} {:>5}  {:>11} {:>8} {:>8} {:>7}  {:>11} {:>8} {:>8} {:>7}  {:>11} {:>7}\n",
             "size", "count", "type", "redop", "root", "time", "algbw", "busbw", "#wrong", "time", "algbw", "busbw",
             "#wrong", "bound", "%bound");
  fmt::print("#{:>12} {:>12} {:>9} {:>7} {:>5}  {:>11} {:>8} {:>8} {:>7}  {:>11} {:>8} {:>8} {:>7}  {:>11} {:>7}\n",
             "(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)", "", "(us)", "(GB/s)", "(GB/s)", "", "(us)",
             "");
  std::fflush(stdout);
}

void Report::print_side(const Row& row, const Side& side) const {
  if (!side.measured) {
    fmt::print("  {:>11} {:>8} {:>8} {:>7}", "N/A", "N/A", "N/A", "N/A");
    return;
  }
  const double bandwidth = algbw(row, side.timing);
  fmt::print("  {:>11.2f} {:>8.3f} {:>8.3f} {:>7}", side.timing.median, bandwidth, bandwidth * row.bus_factor,
             side.wrong ? std::to_string(*side.wrong) : "N/A");
}

void Report::add(const Row& row) {
  for (const Side* side : {&row.out_of_place, &row.in_place}) {
    if (!side->measured) continue;
    wrong_ += side->wrong.value_or(0);
    busbw_sum_ += algbw(row, side->timing) * row.bus_factor;
    ++busbw_count_;
  }
  if (!prints_) return;
  fmt::print(" {:>12} {:>12} {:>9} {:>7} {:>5}", row.bytes, row.count, name_of(row.type), row.op, row.root);
  print_side(row, row.out_of_place);
  print_side(row, row.in_place);
  const double percent = percent_of_bound(row);
  if (percent < 0) fmt::print("  {:>11} {:>7}\n", "N/A", "N/A");
  else fmt::print("  {:>11.2f} {:>7.1f}\n", row.bound_us, percent);
  std::fflush(stdout);
  last_cut_ = row.bound_cut;
  print_groups(row);

  auto json = nlohmann::ordered_json{
      {"size", row.bytes}, {"count", row.count}, {"type", name_of(row.type)}, {"redop", row.op}, {"root", row.root}};
  json.update(side_json(row, row.out_of_place));
  json["in_place"] = row.in_place.measured ? side_json(row, row.in_place) : nlohmann::ordered_json(nullptr);
  json["bound_us"] = row.bound_us < 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(row.bound_us);
  json["bound_percent"] = percent < 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(percent);
  json["bound_cut"] = row.bound_cut;
  json["algorithm"] = row.algorithm;
  for (std::size_t g = 0; g < row.groups.size(); ++g) {
    json["groups"].push_back({{"group", g},
                              {"out_of_place", group_json(row, row.groups[g].out_of_place)},
                              {"in_place", group_json(row, row.groups[g].in_place)}});
  }
  if (!row.groups.empty()) json["fairness"] = fairness(row.groups);
  json_->root["results"].push_back(std::move(json));
  json_->root["plan"] = row.algorithm;
}

void Report::print_groups(const Row& row) const {
  for (std::size_t g = 0; g < row.groups.size(); ++g) {
    const Timing& timing = row.groups[g].out_of_place;
    fmt::print("#   group {:>3}: {:>12} B in {:>11.2f} us (p90 {:.2f}), {:.3f} GB/s\n", g, row.bytes, timing.median,
               timing.p90, algbw(row, timing));
  }
  if (!row.groups.empty()) {
    fmt::print("#   the slowest group has {:.1f} % of the speed of the fastest\n", 100 * fairness(row.groups));
  }
}

Status Report::gather_links(Communicator& comm) {
  if (!settings_.links) return {};
  links_ = comm.link_stats();
  constexpr std::size_t kValues = 14;
  const std::size_t each = links_.size() * kValues;
  std::vector<double> mine;
  for (const LinkStats& link : links_) {
    for (const double value :
         {static_cast<double>(link.bytes_sent), link.delivery_rate_bytes_per_second, link.leased_bytes_per_second,
          static_cast<double>(link.rtt.count()), static_cast<double>(link.min_rtt.count()),
          static_cast<double>(link.retransmits), static_cast<double>(link.reconnects), link.capacity_bytes_per_second,
          link.rate_bytes_per_second, static_cast<double>(link.queue_delay.count()), static_cast<double>(link.drops),
          link.observed_loss, static_cast<double>(link.connections), static_cast<double>(link.repair_connections)}) {
      mine.push_back(value);
    }
  }
  std::vector<double> all(each * static_cast<std::size_t>(comm.size()));
  if (each == 0) return {};
  LONGSPAN_TRY(comm.all_gather(mine.data(), all.data(), each, DataType::kFloat64));
  for (std::size_t w = 0; w < links_.size(); ++w) {
    LinkStats sum;
    sum.name = links_[w].name;
    sum.bandwidth_bytes_per_second = sum.capacity_bytes_per_second = links_[w].bandwidth_bytes_per_second;
    bool sent = false;
    for (std::size_t at = w * kValues; at < all.size(); at += each) {
      const double* value = all.data() + at;
      sum.bytes_sent += static_cast<std::uint64_t>(value[0]);
      sum.delivery_rate_bytes_per_second += value[1];
      sum.leased_bytes_per_second += value[2];
      sum.rtt = std::max(sum.rtt, std::chrono::nanoseconds(static_cast<std::int64_t>(value[3])));
      const std::chrono::nanoseconds least(static_cast<std::int64_t>(value[4]));
      if (least.count() > 0 && (sum.min_rtt.count() == 0 || least < sum.min_rtt)) sum.min_rtt = least;
      sum.retransmits += static_cast<std::uint64_t>(value[5]);
      sum.reconnects += static_cast<std::uint64_t>(value[6]);
      sum.rate_bytes_per_second += value[8];
      sum.drops += static_cast<std::uint64_t>(value[10]);
      sum.observed_loss = std::max(sum.observed_loss, value[11]);
      sum.connections += static_cast<std::uint32_t>(value[12]);
      sum.repair_connections += static_cast<std::uint32_t>(value[13]);
      if (value[0] <= 0) continue;  // knows nothing of this link
      // A queue that all share delays each: the one that waits least shows it.
      const std::chrono::nanoseconds queue(static_cast<std::int64_t>(value[9]));
      sum.queue_delay = sent ? std::min(sum.queue_delay, queue) : queue;
      sum.capacity_bytes_per_second = std::min(sum.capacity_bytes_per_second, value[7]);
      sent = true;
    }
    if (sum.capacity_bytes_per_second > 0) sum.share_used = sum.rate_bytes_per_second / sum.capacity_bytes_per_second;
    links_[w] = std::move(sum);
  }
  return {};
}

void Report::print_links() const {
  if (!settings_.links) return;
  fmt::print("# Links, all ranks together; rates are of IP packets, as they were while the link was last used:\n");
  fmt::print("# {:>20} {:>16} {:>9} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8} {:>11} {:>8} {:>10} {:>9} {:>9}\n", "link",
             "sent", "stated", "carries", "rate", "used", "rtt min", "rtt now", "queued", "retransmits", "drops",
             "reconnects", "loss", "conns");
  fmt::print("# {:>20} {:>16} {:>9} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8} {:>11} {:>8} {:>10} {:>9} {:>9}\n", "", "(B)",
             "(Mbit/s)", "(Mbit/s)", "(Mbit/s)", "(%)", "(ms)", "(ms)", "(ms)", "", "", "", "(seen)", "(repair)");
  const auto ms = [](std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e6; };
  for (const LinkStats& link : links_) {
    fmt::print(
        "# {:>20} {:>16} {:>9.1f} {:>9.1f} {:>9.1f} {:>6.1f} {:>8.2f} {:>8.2f} {:>8.2f} {:>11} {:>8} {:>10} {:>9.1e} "
        "{:>9}\n",
        link.name, link.bytes_sent, link.bandwidth_bytes_per_second * 8e-6, link.capacity_bytes_per_second * 8e-6,
        link.rate_bytes_per_second * 8e-6, 100 * link.share_used, ms(link.min_rtt), ms(link.rtt), ms(link.queue_delay),
        link.retransmits, link.drops, link.reconnects, link.observed_loss,
        fmt::format("{}+{}", link.connections, link.repair_connections));
    json_->root["links"].push_back({{"link", link.name},
                                    {"bandwidth_bytes_per_second", link.bandwidth_bytes_per_second},
                                    {"capacity_bytes_per_second", link.capacity_bytes_per_second},
                                    {"rate_bytes_per_second", link.rate_bytes_per_second},
                                    {"share_used", link.share_used},
                                    {"bytes_sent", link.bytes_sent},
                                    {"delivery_rate_bytes_per_second", link.delivery_rate_bytes_per_second},
                                    {"leased_bytes_per_second", link.leased_bytes_per_second},
                                    {"rtt_ms", ms(link.rtt)},
                                    {"min_rtt_ms", ms(link.min_rtt)},
                                    {"queue_delay_ms", ms(link.queue_delay)},
                                    {"retransmits", link.retransmits},
                                    {"drops", link.drops},
                                    {"reconnects", link.reconnects},
                                    {"observed_loss", link.observed_loss},
                                    {"connections", link.connections},
                                    {"repair_connections", link.repair_connections}});
  }
}

void Report::end(const Communicator& comm) {
  if (!prints_) return;
  if (settings_.tiers) {
    fmt::print("# Bytes sent by rank 0:");
    const auto tiers = comm.bytes_sent_by_tier();
    for (std::size_t t = 1; t < tiers.size(); ++t) {
      fmt::print(" {} {}", name_of(static_cast<Tier>(t)), tiers[t]);
      json_->root["tier_bytes_sent_rank0"][std::string(name_of(static_cast<Tier>(t)))] = tiers[t];
    }
    fmt::print("\n");
  }
  print_links();
  if (!last_cut_.empty()) fmt::print("# Bound of the last line set by: {}\n", last_cut_);
  fmt::print("# Out of bounds values : {} {}\n", wrong_, wrong_ == 0 ? "OK" : "FAILED");
  fmt::print("# Avg bus bandwidth    : {:.6g}\n", busbw_count_ == 0 ? 0.0 : busbw_sum_ / busbw_count_);
  std::fflush(stdout);
  if (settings_.json.empty()) return;
  std::ofstream file(settings_.json);
  file << json_->root.dump(2) << '\n';
  if (!file) {
    fmt::print(stderr, "{}: cannot write {}\n", program_, settings_.json);
    ++wrong_;
  }
}

}  // namespace longspan::perf
