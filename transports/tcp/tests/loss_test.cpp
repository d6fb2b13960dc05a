// What a path gets, by its loss: stated, or observed while it is used.
#include <algorithm>
#include <map>

#include "support/catch.hpp"
#include "tcp/endpoint.hpp"
#include "tcp/loss_watch.hpp"
#include "tcp/path_choice.hpp"
#include "two_ends.hpp"

using namespace longspan;
using namespace longspan::tcp;
using namespace longspan::tcp::testing;
using std::chrono::milliseconds;

namespace {

spi::ChannelOptions far_path(double loss) {
  spi::ChannelOptions options;
  options.tier = Tier::kWan;
  options.lanes = 1;
  options.rate_bytes_per_second = 121e6;
  options.rtt = milliseconds(60);
  options.loss = loss;
  return options;
}

PathMeans kernel(bool bbr) {
  PathMeans means;
  means.has_bbr = bbr;
  return means;
}

bool near(double value, double wanted) { return value > 0.8 * wanted && value < 1.2 * wanted; }

bool says(const spi::PathChoice& choice, const std::string& words) {
  return std::any_of(choice.reasons.begin(), choice.reasons.end(),
                     [&](const std::string& reason) { return reason.find(words) != std::string::npos; });
}

/// Counters of connections as a path that loses one packet in `one_in` would leave them; without, as the kernel says.
struct FakeLosses {
  std::uint64_t one_in = 0;
  std::map<int, LaneInfo> by_fd;

  LaneInfo operator()(int fd) {
    if (one_in == 0) return lane_info(fd);
    LaneInfo& info = by_fd[fd];
    info = lane_info(fd);
    // Loopback sends in few large packets: by bytes, in packets of Ethernet's size.
    info.packets_sent = acknowledged_bytes(fd) / 1448;
    info.retransmits = info.packets_sent / one_in;
    info.spurious_retransmits = 0;
    info.rtt = info.min_rtt = milliseconds(1);
    return info;
  }
};

/// Sends for `time`, and checks what arrives.
bool keep_sending(TwoEnds& ends, std::uint32_t& number, milliseconds time, const std::function<bool()>& done) {
  const TimePoint end = Clock::now() + time;
  const Bytes data = pattern(std::size_t{1} << 20, 3);
  while (Clock::now() < end && !done()) {
    Bytes got(data.size());
    Operation& received = ends.receive(ends.b, number, got);
    ends.send(ends.a, number++, data);
    if (!ends.drive([&] { return received.completions > 0; }) || got != data) return false;
  }
  return ends.settle();
}

}  // namespace

TEST_CASE("A path's congestion control: what was asked for, else bbr where the kernel has it, and why is said",
          "[tcp][loss]") {
  CHECK(choose_path(far_path(0), kernel(true)).congestion_control == "bbr");
  const spi::PathChoice without = choose_path(far_path(0), kernel(false));
  CHECK(without.congestion_control == "cubic");
  CHECK(says(without, "does not offer bbr"));
  PathMeans means = kernel(true);
  means.forced = "reno";
  means.has_forced = true;
  const spi::PathChoice forced = choose_path(far_path(0), means);
  CHECK(forced.congestion_control == "reno");
  CHECK(says(forced, "LONGSPAN_CONGESTION_CONTROL asks for it"));
  means.has_forced = false;
  const spi::PathChoice missing = choose_path(far_path(0), means);
  CHECK(missing.congestion_control == "cubic");
  CHECK(says(missing, "which this kernel does not offer"));
}

TEST_CASE("A path's connections follow from its loss, its RTT and its rate", "[tcp][loss]") {
  const spi::PathChoice clean = choose_path(far_path(0), kernel(true));
  CHECK((clean.lanes == 1 && clean.repair_lanes == 0 && clean.express_lanes == 1));
  CHECK(says(clean, "no loss is stated"));
  const spi::PathChoice lossy = choose_path(far_path(1e-3), kernel(true));
  CHECK((lossy.lanes == 4 && lossy.repair_lanes == 4));
  CHECK(says(lossy, "a stated loss of 1.0e-03"));
  // Mathis: 1448 B / (60 ms x sqrt(2/3 x 1e-3)) is 7.5 Mbit/s for each, where 968 are wanted: as many as there may be.
  const spi::PathChoice cubic = choose_path(far_path(1e-3), kernel(false));
  CHECK((cubic.lanes == 32 && cubic.repair_lanes == 4));
  CHECK(says(cubic, "Mathis"));
  spi::ChannelOptions slow = far_path(1e-4);
  slow.rate_bytes_per_second = 12e6;
  CHECK(choose_path(slow, kernel(true)).lanes == 2);
  CHECK(choose_path(slow, kernel(false)).lanes == 9);  // 23.6 Mbit/s each, twice 96
  CHECK(choose_path(far_path(1e-6), kernel(false)).repair_lanes == 0);
  CHECK(says(choose_path(far_path(1e-3), kernel(true), LossSource::kObserved), "an observed loss"));
}

TEST_CASE("Random loss is told from a full queue and from a single burst", "[tcp][loss]") {
  const auto sample = [](std::uint64_t lost, milliseconds queue) {
    return LossWatch::Sample{10'000, lost, queue, milliseconds(60)};
  };
  LossWatch random;
  for (int i = 0; i < 6; ++i) random.take(sample(10, milliseconds(1)));
  CHECK(near(random.loss(), 1e-3));
  LossWatch full;
  for (int i = 0; i < 20; ++i) full.take(sample(100, milliseconds(20)));
  CHECK(full.loss() == 0);
  LossWatch burst;
  for (int i = 0; i < 20; ++i) burst.take(sample(i == 7 ? 500 : 0, milliseconds(0)));
  CHECK(burst.loss() == 0);
  LossWatch idle;
  for (int i = 0; i < 20; ++i) idle.take({20, 2, Duration(0), milliseconds(60)});
  CHECK(idle.loss() == 0);
  // What was long ago is forgotten.
  for (int i = 0; i < 100; ++i) random.take(sample(0, milliseconds(0)));
  CHECK(random.loss() == 0);
}

TEST_CASE("Loss that nobody stated is observed, and the channel gets what a lossy path has, in the middle of its work",
          "[tcp][loss]") {
  Settings settings;
  settings.tier = Tier::kWan;
  settings.rate = 20e6;
  settings.window = 1 << 20;
  settings.rtt = milliseconds(10);
  TwoEnds ends(settings);
  FakeLosses losses;
  losses.one_in = 500;
  static_cast<TcpEndpoint&>(*ends.a.endpoint).set_sampler([&](int fd) { return losses(fd); });
  const auto wanted = choose_path(far_path(2e-3), path_means({}));
  std::uint32_t number = 0;
  // Beginning with one connection for data and one for small messages.
  REQUIRE(ends.drive([&] { return ends.to_b->connections() == 2; }));
  CHECK(ends.a.channel->stats().lanes == 1);
  const auto repaired = [&] {
    return ends.a.channel->stats().repair_lanes == static_cast<std::uint32_t>(wanted.repair_lanes);
  };
  REQUIRE(keep_sending(ends, number, milliseconds(20'000),
                       [&] { return repaired() && ends.a.channel->stats().lanes >= 2; }));
  CHECK(ends.a.channel->stats().repair_lanes == 4);
  CHECK(ends.a.channel->stats().lanes >= 2);
  CHECK(near(ends.a.channel->stats().observed_loss, 2e-3));
  // The other direction has seen nothing.
  CHECK(ends.b.channel->stats().repair_lanes == 0);
  // It works as a lossy path does: what one connection holds up comes over another.
  ends.to_b->inject({Fault::Kind::kStall, 0, true, 1000});
  REQUIRE(keep_sending(ends, number, milliseconds(500), [] { return false; }));
  ends.to_b->resume();
  REQUIRE(keep_sending(ends, number, milliseconds(100), [] { return false; }));
  CHECK(ends.exactly_once());
  CHECK(ends.a.broken.empty());
  CHECK(ends.b.broken.empty());
}

TEST_CASE("Connections that are lost or refused while loss is observed harm nothing", "[tcp][loss]") {
  Settings settings;
  settings.tier = Tier::kWan;
  settings.rate = 20e6;
  settings.rtt = milliseconds(10);
  settings.patience = milliseconds(3000);
  TwoEnds ends(settings);
  FakeLosses losses;
  losses.one_in = 500;
  static_cast<TcpEndpoint&>(*ends.a.endpoint).set_sampler([&](int fd) { return losses(fd); });
  REQUIRE(ends.drive([&] { return ends.to_b->connections() == 2; }));
  // Each of the new ones is reset in its greeting.
  for (std::size_t i = 2; i < 12; ++i) ends.to_b->inject({Fault::Kind::kReset, i, true, 20});
  std::uint32_t number = 0;
  REQUIRE(keep_sending(ends, number, milliseconds(20'000), [&] { return ends.a.channel->stats().repair_lanes == 4; }));
  CHECK(ends.a.channel->stats().repair_lanes == 4);
  CHECK(ends.exactly_once());
  CHECK(ends.a.broken.empty());
  CHECK(ends.b.broken.empty());
}
