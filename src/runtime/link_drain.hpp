#pragma once

#include "base/clock.hpp"
#include "runtime/link_windows.hpp"

namespace longspan::runtime {

/// Gets rid of a queue: less is sent than what arrives, until it is gone, or shows that it is not ours.
class LinkDrain {
 public:
  enum class Verdict {
    kGoesOn,
    kGone,        ///< the queue is
    kTooShallow,  ///< it stays, and we left too little room to say whose it is
    kNotOurs,     ///< it stays, though we left room
  };

  /// `carried` is what arrives, of what is stated; `room` the least part of it that is left unused; `least` the least
  /// share.
  void begin(double carried, double room, double least, double queue);
  /// How long the queue should take.
  Duration expected(double queue) const;
  /// What a full window adds to what is known of `carried`: the share to send from now on, instead of `share`.
  double learn(const LinkReading& reading, double share);
  double share() const;
  double carried() const noexcept { return carried_; }
  Verdict judge(const LinkReading& reading, const LinkWindows& windows, TimePoint now);

 private:
  double carried_ = 0;      // mean of full windows, since the cut
  int windows_ = 0;         // of them
  double part_ = 0;         // of what is carried that is left unused
  double least_ = 0;
  TimePoint began_{};       // to show; {}: not yet
  double queue_then_ = 0;
};

}  // namespace longspan::runtime
