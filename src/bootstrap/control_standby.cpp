// How the ranks find the standby after the rendezvous: without waiting, since it is needed only when rank 0 is gone.
#include <fmt/format.h>
#include <sys/epoll.h>

#include "base/log.hpp"
#include "bootstrap/control.hpp"

namespace longspan::bootstrap {
namespace {

constexpr std::size_t kMaxStrangers = 256;  // besides one connection of each rank
constexpr std::chrono::milliseconds kRetry{200};

}  // namespace

void ControlPlane::connect_standby() {
  retry_standby_ = TimePoint::max();
  if (standby_at_.empty() || hub_->life(standby_) != Life::kAlive) return;
  auto fd = dial(standby_at_.front());
  if (!fd.ok()) {
    retry_standby_ = Clock::now() + kRetry;
    return;
  }
  Link link;
  link.stream = Stream::dialed(std::move(*fd), guard_.get(),
                               {"control", std::to_string(rank_), std::to_string(standby_), "", true});
  link.connecting = true;
  link.waits_to_write = true;
  link.since = link.last_sent = Clock::now();
  ControlMessage hello;
  hello.type = ControlType::kHello;
  hello.job = job_;
  hello.rank = rank_;
  link.writer.push(encode(hello));
  if (!watch(static_cast<std::uint64_t>(standby_), link.stream.fd(), true, true)) return;
  links_.insert_or_assign(standby_, std::move(link));
}

void ControlPlane::standby_connected() {
  Link& link = links_.at(standby_);
  if (const int error = connect_result(link.stream.fd()); error != 0) {
    links_.erase(standby_);
    retry_standby_ = Clock::now() + kRetry;
    return;
  }
  link.connecting = false;
  flush(static_cast<std::uint64_t>(standby_), link);
}

void ControlPlane::accept_strangers() {
  while (true) {
    Link link;
    Fd fd = accept_next(standby_listener_.get());
    if (!fd.valid()) return;
    link.stream = Stream::accepted(std::move(fd), guard_.get());
    link.since = Clock::now();
    const std::uint64_t key = next_stranger_++;
    if (watch(key, link.stream.fd(), false, true)) strangers_.emplace(key, std::move(link));
    if (strangers_.size() > kMaxStrangers + static_cast<std::size_t>(size_)) strangers_.erase(strangers_.begin());
  }
}

void ControlPlane::read_stranger(std::uint64_t key) {
  const auto found = strangers_.find(key);
  if (found == strangers_.end()) return;
  Link& link = found->second;
  const FrameReader::State state = link.reader.read(link.stream);
  if (state == FrameReader::State::kNeedMore) return;
  if (state == FrameReader::State::kFrame) {
    const auto hello = decode_control(link.reader.take());
    const security::Introduction* who = link.stream.introduction();
    const bool proved =
        guard_ == nullptr || (who != nullptr && hello.ok() && who->purpose == "control" &&
                              who->from == std::to_string(hello->rank) && who->to == std::to_string(rank_));
    const bool ours = proved && hello.ok() && hello->type == ControlType::kHello && hello->job == job_ &&
                      hello->rank > 0 && hello->rank < size_ && hello->rank != rank_ && !links_.contains(hello->rank);
    if (ours) {
      const int rank = hello->rank;
      link.last_sent = Clock::now();
      watch(static_cast<std::uint64_t>(rank), link.stream.fd(), false, false);
      links_.emplace(rank, std::move(link));
      strangers_.erase(found);
      if (links_.size() + 1 == static_cast<std::size_t>(size_)) standby_listener_.reset();
      return read_link(rank);
    }
  }
  log::debug("control plane: dropped a connection that is not of this job");
  strangers_.erase(found);
}

}  // namespace longspan::bootstrap
