#include <atomic>
#include <chrono>
#include <string_view>
#include <utility>
#include <vector>

#include "ranks.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::test;

namespace {

constexpr double kLink = 20e6;  // bytes/s, as stated: little enough for any machine
constexpr std::size_t kShort = std::size_t{4} << 20;
constexpr std::size_t kLong = std::size_t{16} << 20;

/// HSDP's shape in small: two ranks a region, a group per local rank across the regions.
Job sharing() {
  Job job = two_regions(1, 2);
  const std::string before = "8 Gbit/s";
  job.topology.replace(job.topology.find(before), before.size(), "160 Mbit/s");
  return job;
}

}  // namespace

TEST_CASE("Two groups share a link, and what the first to end leaves free the other has at once") {
  std::vector<double> ended(4);
  const auto reports = run(sharing(), [&ended](Communicator& world) -> std::string {
    auto group = world.split(world.rank() % 2, world.rank());
    if (!group.ok()) return group.status().to_string();
    const std::size_t count = (world.rank() % 2 == 0 ? kLong : kShort) / sizeof(float);
    std::vector<float> data(count, 1.0F);
    // Twice: once to connect and to warm up.
    for (int round = 0; round < 2; ++round) {
      if (const Status status = world.barrier(); !status.ok()) return status.to_string();
      const auto begin = std::chrono::steady_clock::now();
      const Status status = group->all_reduce(data.data(), data.data(), count, DataType::kFloat32, ReduceOp::kSum);
      if (!status.ok()) return status.to_string();
      ended[static_cast<std::size_t>(world.rank())] =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    return data.front() == 4.0F && data.back() == 4.0F ? "" : "a wrong sum";
  });
  REQUIRE(first_problem(reports) == "");
  const double all = static_cast<double>(kLong + kShort) / kLink;       // the link is never idle
  const double halves = 2 * static_cast<double>(kLong) / kLink;         // what is left free is lost
  const double fair = 2 * static_cast<double>(kShort) / kLink;          // the short one gets half until it ends
  CHECK(ended[0] > 0.9 * all);  // nobody gets more than there is
  CHECK(ended[0] < (all + halves) / 2);
  CHECK(ended[1] > 0.7 * fair);
  CHECK(ended[1] < 1.6 * fair);
}

TEST_CASE("Statistics of a link say what went over it, and what it carries") {
  const auto reports = run(sharing(), [](Communicator& world) -> std::string {
    std::vector<float> data(kShort / sizeof(float), 1.0F);
    const Status status = world.all_reduce(data.data(), data.data(), data.size(), DataType::kFloat32, ReduceOp::kSum);
    if (!status.ok()) return status.to_string();
    // A call may end before what it sends is gone; when all have ended, all has come.
    if (const Status barrier = world.barrier(); !barrier.ok()) return barrier.to_string();
    const std::vector<LinkStats> links = world.link_stats();
    // Nobody leaves before all have looked: a closed connection has no round trip.
    if (const Status barrier = world.barrier(); !barrier.ok()) return barrier.to_string();
    if (links.size() != 2) return "not two links";
    const LinkStats& ours = links[world.rank() < 2 ? 0 : 1];
    const LinkStats& theirs = links[world.rank() < 2 ? 1 : 0];
    if (ours.name != (world.rank() < 2 ? "eu -> us" : "us -> eu")) return "found " + ours.name;
    if (ours.bytes_sent < kShort / 2 || theirs.bytes_sent != 0) return "wrong bytes";
    if (ours.bandwidth_bytes_per_second != kLink || ours.capacity_bytes_per_second <= 0) return "wrong capacity";
    if (ours.capacity_bytes_per_second > kLink || ours.rate_bytes_per_second > 1.3 * kLink) return "more than there is";
    if (ours.min_rtt.count() <= 0 || ours.rtt < ours.min_rtt) return "no round trip";
    return "";
  });
  CHECK(first_problem(reports) == "");
}

TEST_CASE(
    "A call that began later than the other region's ends with its result, and nothing of what it still sends is "
    "lost") {
  Job job = two_regions(2, 1);
  // The window of chunks is as long as the stated round trip wants, and a call runs ahead of its sends by no more.
  for (const auto& [before, after] : {std::pair("8 Gbit/s", "160 Mbit/s"), std::pair("1 ms", "50 ms")}) {
    job.topology.replace(job.topology.find(before), std::string_view(before).size(), after);
  }
  std::atomic<bool> ahead{false};
  const std::size_t count = kLong / sizeof(float);
  const auto reports = run(job, [&](Communicator& world) -> std::string {
    std::vector<float> data(count, 1.0F);
    const auto sum = [&] {
      return world.all_reduce(data.data(), data.data(), count, DataType::kFloat32, ReduceOp::kSum);
    };
    const auto sent = [&] { return world.link_stats()[world.rank() < 2 ? 0 : 1].bytes_sent; };
    if (const Status status = sum(); !status.ok()) return status.to_string();
    if (const Status status = world.barrier(); !status.ok()) return status.to_string();
    const std::uint64_t first = sent();
    if (world.rank() < 2) {
      auto work = world.all_reduce_async(data.data(), data.data(), count, DataType::kFloat32, ReduceOp::kSum);
      while (!work.test() && sent() - first < kLong / 8) continue;
      ahead = true;
      ahead.notify_all();
      if (const Status status = work.wait(); !status.ok()) return status.to_string();
    } else {
      ahead.wait(false);
      if (const Status status = sum(); !status.ok()) return status.to_string();
      // Each sends half of kLong, and began when the others had a quarter of theirs behind them.
      if (static_cast<double>(sent() - first) > 0.95 * static_cast<double>(kLong / 2)) {
        return "it waited for what it sends: " + std::to_string(sent() - first) + " bytes were sent";
      }
    }
    return data.front() == 16.0F && data.back() == 16.0F ? "" : "a wrong sum";
  });  // each communicator is destroyed at once
  CHECK(first_problem(reports) == "");
}
