#include "lab/output.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace longspan::lab {

std::optional<PrefixMode> parse_prefix_mode(std::string_view name) noexcept {
  if (name == "none") return PrefixMode::kNone;
  if (name == "all") return PrefixMode::kAll;
  if (name == "others") return PrefixMode::kOthers;
  return std::nullopt;
}

void write_fully(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd ready{fd, POLLOUT, 0};
      ::poll(&ready, 1, 1000);
    } else if (errno != EINTR) {
      return;  // nobody listens any more; the run goes on
    }
  }
}

void LinePrinter::feed(std::span<const char> text) {
  pending_.append(text.data(), text.size());
  std::string lines;
  std::size_t start = 0;
  for (std::size_t end = pending_.find('\n'); end != std::string::npos; end = pending_.find('\n', start)) {
    lines.append(prefix_).append(pending_, start, end + 1 - start);
    start = end + 1;
  }
  pending_.erase(0, start);
  write_fully(fd_, lines);
}

void LinePrinter::flush() {
  if (pending_.empty()) return;
  write_fully(fd_, prefix_ + pending_ + "\n");
  pending_.clear();
}

}  // namespace longspan::lab
