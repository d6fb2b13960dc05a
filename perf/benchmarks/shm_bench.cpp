// The shared-memory transport between two processes of this host: one-way latency and bandwidth by size, and by how
// bytes are fetched, beside memcpy. Times are the best and the median of many, since other load only ever adds.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "shm/endpoint.hpp"

using namespace longspan;

namespace {

constexpr std::size_t kLargest = std::size_t{64} << 20;

struct Times {
  double best = 1e9;
  double median = 1e9;
};
Times times_of(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

double now() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

void fail(std::string_view what) {
  fmt::print(stderr, "shm_bench: {}\n", what);
  std::_Exit(1);
}

// One of the two ranks. Everything spins, as an executor does that expects its data soon.
class Rank {
 public:
  Rank(int self, const shm::Tuning& tuning) : self_(static_cast<spi::PeerId>(self)) {
    spi::EndpointOptions options;
    options.self = self_;
    options.job = 1;
    auto opened = shm::ShmEndpoint::open(options, tuning);
    if (!opened) fail(opened.status().to_string());
    endpoint_ = *std::move(opened);
  }
  std::string address() const { return endpoint_->address(); }
  void connect(const std::string& address) {
    auto channel = endpoint_->connect(1 - self_, address, {}, Clock::now() + std::chrono::seconds(10));
    if (!channel) fail(channel.status().to_string());
    channel_ = *channel;
  }
  void send(std::span<const std::byte> data) {
    channel_->send({{1, sent_++, static_cast<std::uint32_t>(self_), 0}, 0, data, nullptr, &pending_});
    ++pending_;
  }
  void post(std::span<std::byte> data) {
    spi::RecvRequest request;
    request.id = {1, received_++, static_cast<std::uint32_t>(1 - self_), 0};
    request.data = data;
    request.context = &pending_;
    channel_->post_recv(request);
    ++pending_;
  }
  void finish() {
    std::array<spi::Completion, 16> completions;
    while (pending_ > 0) {
      const std::size_t count = endpoint_->poll(completions);
      for (std::size_t i = 0; i < count; ++i) {
        if (completions[i].kind == spi::CompletionKind::kArrival) continue;
        if (!completions[i].status.ok()) fail(completions[i].status.to_string());
        --pending_;
      }
    }
  }
  void close() { endpoint_->close(Clock::now() + std::chrono::seconds(2)); }

 private:
  spi::PeerId self_;
  std::unique_ptr<shm::ShmEndpoint> endpoint_;
  spi::Channel* channel_ = nullptr;
  std::uint32_t sent_ = 0;
  std::uint32_t received_ = 0;
  int pending_ = 0;
};

// Half of a round trip, in seconds.
Times ping_pong(Rank& rank, bool serves, std::span<std::byte> data, int rounds) {
  std::vector<double> taken;
  for (int i = 0; i < rounds; ++i) {
    const double start = now();
    rank.post(data);
    if (serves) rank.send(data);
    rank.finish();
    if (!serves) {
      rank.send(data);
      rank.finish();
    }
    taken.push_back((now() - start) / 2);
  }
  return times_of(std::move(taken));
}

Times copy_times(std::span<std::byte> to, std::span<const std::byte> from, int rounds) {
  std::vector<double> taken;
  for (int i = 0; i < rounds; ++i) {
    const double start = now();
    std::memcpy(to.data(), from.data(), to.size());
    asm volatile("" ::: "memory");
    taken.push_back(now() - start);
  }
  return times_of(std::move(taken));
}

void run(Rank& rank, bool serves, std::string_view label) {
  std::vector<std::byte> buffer(kLargest, std::byte{1});
  std::vector<std::byte> other(serves ? kLargest : 0, std::byte{2});
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, std::size_t{1} << 10, std::size_t{8} << 10,
                                 std::size_t{16} << 10, std::size_t{32} << 10, std::size_t{64} << 10,
                                 std::size_t{256} << 10, std::size_t{1} << 20, std::size_t{8} << 20, kLargest}) {
    const int rounds = size <= (16 << 10) ? 20'000 : size <= (1 << 20) ? 1'000 : 20;
    const std::span<std::byte> data(buffer.data(), size);
    const Times way = ping_pong(rank, serves, data, rounds);
    if (!serves) continue;
    const Times copy = copy_times(std::span(other.data(), size), data, rounds);
    fmt::print("{:8} {:>10} {:>10.2f} {:>10.2f} {:>10.2f} {:>14.2f}\n", label, size, way.best * 1e6, way.median * 1e6,
               static_cast<double>(size) / way.best / 1e9, static_cast<double>(size) / copy.best / 1e9);
    std::fflush(stdout);
  }
}

void bench(std::string_view label, const shm::Tuning& tuning) {
  int up[2];
  int down[2];
  if (::pipe(up) != 0 || ::pipe(down) != 0) fail("pipe");
  const auto exchange = [](Rank& rank, int from, int to) {
    const std::string mine = rank.address();
    std::string theirs(mine.size(), ' ');
    if (::write(to, mine.data(), mine.size()) < 0 || ::read(from, theirs.data(), theirs.size()) <= 0) fail("exchange");
    rank.connect(theirs);
  };
  const pid_t child = ::fork();
  const bool serves = child != 0;
  Rank rank(serves ? 0 : 1, tuning);
  exchange(rank, serves ? up[0] : down[0], serves ? down[1] : up[1]);
  run(rank, serves, label);
  rank.close();
  if (!serves) std::_Exit(0);
  ::waitpid(child, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
  fmt::print("one way between two processes; memcpy in one\n{:8} {:>10} {:>10} {:>10} {:>10} {:>14}\n", "fetch",
             "bytes", "best us", "median us", "best GB/s", "memcpy GB/s");
  const std::string only = argc > 1 ? argv[1] : "";
  shm::Tuning tuning;
  if (argc > 2) tuning.eager_limit = static_cast<std::size_t>(std::atol(argv[2]));
  if (only.empty() || only == "copy") bench("copy", tuning);
  tuning.best_fetch = shm::FetchMode::kStaged;
  if (only.empty() || only == "staged") bench("staged", tuning);
}
