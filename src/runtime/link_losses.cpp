#include "runtime/link_losses.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr double kLossy = 0.02;         // as in BBRv2 (draft-cardwell-iccrg-bbr-congestion-control, BBRLossThresh)
constexpr double kPacketsToTell = 500;
constexpr double kHelped = 0.7;         // of what was lost before a cut
constexpr int kInVain = 3;              // cuts
constexpr Duration kShows = 1s;         // whether a cut helped
constexpr Duration kRandomLasts = 10s;  // after which loss at random is looked at again

}  // namespace

bool LinkLosses::too_many(const LinkCounts& window, TimePoint now) {
  counted_ += window;
  if (counted_.packets < kPacketsToTell) return false;
  const LinkCounts all = std::exchange(counted_, {});
  loss_ = all.retransmits / all.packets;
  const double random = std::max(3 * stated_, now < random_until_ ? 2 * random_loss_ : 0);
  const double expected = std::max(kLossy, random) * all.packets;
  return all.retransmits > expected + 4 * std::sqrt(expected);
}

bool LinkLosses::cut_may_help(double share, TimePoint now) {
  const bool again = now < lost_until_;
  const bool helped = !again || loss_ < kHelped * loss_before_;
  if (!again) share_before_ = share;
  in_vain_ = helped ? 0 : in_vain_ + 1;
  loss_before_ = loss_;
  lost_until_ = now + kShows;
  if (in_vain_ < kInVain) return true;
  random_loss_ = loss_;
  random_until_ = now + kRandomLasts;
  lost_until_ = now;
  return false;
}

void LinkLosses::more_is_sent(TimePoint now) noexcept {
  in_vain_ = 0;
  lost_until_ = now;
}

}  // namespace longspan::runtime
