#include "device/cuda/mailbox.hpp"

#include <sys/eventfd.h>

#include <cerrno>

namespace longspan::device::cuda {

Result<std::shared_ptr<DriverMailbox>> DriverMailbox::create() {
  auto made = std::make_shared<DriverMailbox>();
  made->bell_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made->bell_) return system_error("eventfd for a device's mailbox", errno);
  return made;
}

std::optional<Token> DriverMailbox::take() {
  const std::lock_guard guard(mutex_);
  std::optional<Token> token;
  if (!arrived_.empty()) {
    token = arrived_.front();
    arrived_.pop_front();
  }
  if (arrived_.empty() && any_.load(std::memory_order_relaxed)) {  // also where they were forgotten
    any_.store(false, std::memory_order_relaxed);
    std::uint64_t rung = 0;
    if (::read(bell_.get(), &rung, sizeof rung) < 0) errno = 0;  // not rung since: nothing to clear
  }
  return token;
}

std::size_t DriverMailbox::forget(const void* owner, const Copier* by) {
  const std::lock_guard guard(mutex_);
  for (Letter& each : letters_) {
    if (each.to != nullptr && each.token.owner == owner && each.token.by == by) each.token.owner = nullptr;
  }
  return std::erase_if(arrived_, [&](const Token& each) { return each.owner == owner && each.by == by; });
}

void DriverMailbox::put_away(Letter& letter) {
  letter.to = nullptr;
  spare_.push_back(&letter);
}

// Runs on a thread of the driver, which no call of the driver may follow from.
void DriverMailbox::deliver(void* raw) {
  auto* const letter = static_cast<Letter*>(raw);
  const std::shared_ptr<DriverMailbox> keep = letter->to;
  DriverMailbox& box = *keep;
  const std::lock_guard guard(box.mutex_);
  box.arrived_.push_back(letter->token);
  box.put_away(*letter);
  box.any_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  if (::write(box.bell_.get(), &one, sizeof one) < 0) errno = 0;  // full: it rings already
}

Status DriverMailbox::tell(const Driver& driver, Stream stream, const Token& token) {
  Letter* letter = nullptr;
  {
    const std::lock_guard guard(mutex_);
    if (spare_.empty()) {
      letter = &letters_.emplace_back();
    } else {
      letter = spare_.back();
      spare_.pop_back();
    }
    *letter = Letter{shared_from_this(), token};
  }
  // Without the lock: into a full stream, this waits for the driver's threads, which may want it.
  Status status = driver.check(driver.host_function(stream, &deliver, letter), "cuLaunchHostFunc");
  if (status.ok()) return status;
  const std::lock_guard guard(mutex_);
  put_away(*letter);
  return status;
}

void DriverMailbox::drop(const Copier* by) {
  const std::lock_guard guard(mutex_);
  std::erase_if(arrived_, [by](const Token& each) { return each.by == by; });
  for (Letter& each : letters_) {
    if (each.to != nullptr && each.token.by == by) put_away(each);
  }
}

}  // namespace longspan::device::cuda
