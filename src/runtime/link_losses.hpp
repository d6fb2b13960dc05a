#pragma once

#include "base/clock.hpp"
#include "runtime/link_sample.hpp"

namespace longspan::runtime {

/// What is lost on a link: because it is sent too much, or at random. A buffer too shallow for a queue that can be seen
/// overflows only until we send no more than what arrived; a link that loses at random goes on.
class LinkLosses {
 public:
  explicit LinkLosses(double stated) : stated_(stated) {}

  /// Another share is sent from now on.
  void begin_anew() noexcept { counted_ = {}; }
  /// Whether far more packets are lost than at random, over enough of them to tell.
  bool too_many(const LinkCounts& window, TimePoint now);
  /// After too many: true where sending less than `share` may help; false where it was tried in vain, and `share()` is
  /// what there was before.
  bool cut_may_help(double share, TimePoint now);
  double share() const noexcept { return share_before_; }
  /// What is lost from now on is lost because more is sent.
  void more_is_sent(TimePoint now) noexcept;

 private:
  double stated_;              // at random
  LinkCounts counted_;
  double loss_ = 0;            // as last counted
  double loss_before_ = 0;     // a cut for it
  double share_before_ = 1;
  int in_vain_ = 0;            // cuts
  double random_loss_ = 0;     // that stayed when we sent less
  TimePoint random_until_{};
  TimePoint lost_until_{};     // what is lost until then shows whether the cut helped
};

}  // namespace longspan::runtime
