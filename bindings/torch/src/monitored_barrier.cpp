// A barrier that names the ranks that do not come. It meets in the group's store: what is missing there breaks nothing.
#include <c10/util/Exception.h>

#include <algorithm>
#include <sstream>

#include "bindings/torch/src/backend.hpp"

namespace longspan::torch_binding {
namespace {

using Clock = std::chrono::steady_clock;

// For the first rank to say who is missing, after the timeout.
constexpr std::chrono::milliseconds kVerdictPatience{1000};
constexpr const char* kReleased = "released";

std::chrono::milliseconds left_until(Clock::time_point deadline) {
  return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()),
                  std::chrono::milliseconds(1));
}

/// False at the deadline, and when the store is gone.
bool arrives(c10d::Store& store, const std::string& key, Clock::time_point deadline) {
  try {
    store.wait({key}, left_until(deadline));
    return true;
  } catch (const std::exception&) {  // each kind of store has its own error for it
    return false;
  }
}

void put(c10d::Store& store, const std::string& key, const std::string& text) {
  store.set(key, std::vector<std::uint8_t>(text.begin(), text.end()));
}

std::string failure(const std::vector<int>& missing, std::chrono::milliseconds timeout) {
  std::ostringstream text;
  text << (missing.size() == 1 ? "Rank " : "Ranks ");
  for (std::size_t i = 0; i < missing.size(); ++i) text << (i == 0 ? "" : ", ") << missing[i];
  text << " failed to pass monitoredBarrier in " << timeout.count() << " ms";
  return text.str();
}

/// The first rank's part: waits for the others and tells them what came of it.
void gather_ranks(c10d::Store& store, const std::string& prefix, int size, std::chrono::milliseconds timeout,
                  bool wait_all_ranks) {
  if (timeout == kNoTimeout) {  // no time for anyone: torch's suite wants to hear of this rank, not of the next
    put(store, prefix + "verdict", "Rank 0 timed out");
    TORCH_CHECK(false, "[Rank 0]: Rank 0 timed out in monitoredBarrier after 0 ms");
  }
  const auto deadline = Clock::now() + timeout;
  std::vector<int> missing;
  for (int r = 1; r < size && (missing.empty() || wait_all_ranks); ++r) {
    if (!arrives(store, prefix + std::to_string(r), deadline)) missing.push_back(r);
  }
  put(store, prefix + "verdict", missing.empty() ? kReleased : failure(missing, timeout));
  TORCH_CHECK(missing.empty(), "[Rank 0]: ", failure(missing, timeout));
}

}  // namespace

void LongspanBackend::monitoredBarrier(const c10d::BarrierOptions& options, bool wait_all_ranks) {
  (void)communicator("monitoredBarrier");
  const std::chrono::milliseconds timeout = options.timeout < kNoTimeout ? options_->timeout : options.timeout;
  const std::string prefix = "longspan/monitored/" + std::to_string(++monitored_barriers_) + "/";
  // A connection of its own: one that waits keeps other threads from the store.
  const c10::intrusive_ptr<c10d::Store> store = store_->clone();
  if (rank_ == 0) return gather_ranks(*store, prefix, size_, timeout, wait_all_ranks);
  put(*store, prefix + std::to_string(rank_), "");
  const std::string verdict = prefix + "verdict";
  std::string told;
  if (arrives(*store, verdict, Clock::now() + timeout + kVerdictPatience)) {
    const std::vector<std::uint8_t> bytes = store->get(verdict);
    told.assign(bytes.begin(), bytes.end());
    if (told == kReleased) return;
  }
  TORCH_CHECK(false, "Rank ", rank_,
              " successfully reached monitoredBarrier, but received errors while waiting for send/recv from rank 0. ",
              told.empty() ? "Please check rank 0 logs for faulty rank." : "Rank 0 says: " + told);
}

}  // namespace longspan::torch_binding
