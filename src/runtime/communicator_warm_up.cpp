// What a communicator makes ready before its first collective.
#include <algorithm>

#include "base/log.hpp"
#include "executor/execution.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/job.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kLargeBytes = std::size_t{64} << 20;  // whoever carries data between regions then
/// Slow start from 10 packets to the window of a long link takes 8 to 11 round trips, dialing and its proof up to 3.
constexpr int kWarmUpRoundTrips = 14;
constexpr Duration kLongestWarmUp = 4s;
/// Memory that is touched between two looks at the network.
constexpr std::size_t kTouched = std::size_t{2} << 20;
constexpr std::size_t kMostTouched = std::size_t{256} << 20;

}  // namespace

/// Connects to the ranks that a large allreduce needs and waits, for a while, until those connections have the windows
/// for it: a user would rather have this take a second longer than the first steps. The scratch memory is found
/// meanwhile.
void CommunicatorImpl::warm_up() {
  if (members_.cluster.topology.wan.empty() || size() == 1) return;
  Domain::Lock lock = domain_->lock();
  const TimePoint begun = Clock::now();
  const auto entry = entry_for(CollectiveShape{}, kLargeBytes);
  const Status status = entry.ok() ? connect(**entry, begun + job_->timeout()) : entry.status();
  if (!status.ok()) {
    // The first collective will say it, if it needs the same.
    log::debug("connecting ahead of use: {}", status.to_string());
    return;
  }
  touch_scratch(lock, **entry);
  double rtt = 0;
  for (const ChannelPlan& each : (*entry)->plan->plan().channels) rtt = std::max(rtt, each.rtt_seconds);
  const auto patience = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(kWarmUpRoundTrips * rtt));
  const Duration timeout = job_->timeout();
  const TimePoint until = begun + std::min({patience, kLongestWarmUp, timeout / 4});
  const auto warm = [&] {
    const auto& flows = (*entry)->flows;
    return !error_.ok() || std::none_of(flows.begin(), flows.end(),
                                        [](const LeasedFlow& flow) { return flow.channel->stats().warming; });
  };
  const bool in_time = domain_->drive_until(lock, warm, until);
  log::debug("connections to other regions are {} after {:.3f} s", in_time ? "warm" : "not warm",
             std::chrono::duration<double>(Clock::now() - begun).count());
}

void CommunicatorImpl::touch_scratch(Domain::Lock& lock, PlanEntry& entry) {
  executor::Call call;
  call.in.uniform = call.out.uniform = kLargeBytes / size_of(call.type);
  const std::size_t bytes = executor::Execution(entry.plan).scratch_bytes(call);
  if (bytes > kMostTouched) return;
  auto block = domain_->scratch().take(bytes);
  if (!block.ok()) return;
  for (std::size_t at = 0; at < bytes; at += kTouched) {
    executor::ScratchPool::touch(std::span(block->data() + at, std::min(kTouched, bytes - at)));
    domain_->progress(lock);
  }
}

}  // namespace longspan::runtime
