#pragma once

#include "base/clock.hpp"
#include "runtime/link_windows.hpp"

namespace longspan::runtime {

/// Somebody else who fills the buffer, and takes what we leave: against such a one half of what we had alone is kept.
class LinkRival {
 public:
  enum class Verdict {
    kGoesOn,
    kGone,      ///< there is no queue any more
    kTooMuch,   ///< even half is more than the link has left for us
    kRoute,     ///< a queue that stays exactly as it is: nobody's, but a longer route
  };

  /// Every window: with how much there was lastingly no queue.
  void note(const LinkReading& reading, double share);
  double half() const noexcept { return clear_share_ / 2; }
  /// We had one just now.
  bool known(TimePoint now) const noexcept { return now < known_until_; }
  /// A link that carries less says so at once. One that carries less whenever we send less is shared. `before` is what
  /// was sent, `carried` what arrives.
  bool takes_little_by_little(const LinkReading& reading, double before, double carried, TimePoint now);
  /// The least share that a drain may go down to where somebody may take what it leaves.
  double least_drained() const noexcept;

  void begin(double queue, TimePoint now);
  Verdict judge(const LinkReading& reading, const LinkWindows& windows, TimePoint now);

 private:
  double clear_share_ = 1;    // with which there was lastingly no queue
  int alone_ = 0;             // windows in which we used the link and there was no queue, since there was one
  int losing_ = 0;            // windows in a row in which much less arrived than was sent
  double least_ = 0;          // of the queue
  double most_ = 0;
  TimePoint look_at_{};       // whether the queue stays as it is
  TimePoint known_until_{};
  TimePoint sudden_until_{};  // much less arrived than was sent, just now
};

}  // namespace longspan::runtime
