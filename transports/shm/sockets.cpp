#include "shm/sockets.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/sockets.hpp"

namespace longspan::shm {
namespace {

constexpr int kBacklog = 4096;
constexpr std::size_t kMaxFds = 4;

Fd packet_socket() { return Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

}  // namespace

Result<Listener> listen_anywhere() {
  std::array<std::uint64_t, 2> random{};
  if (::getrandom(random.data(), sizeof(random), 0) != static_cast<ssize_t>(sizeof(random))) {
    return system_error("shm: getrandom", errno);
  }
  Listener listener{packet_socket(), fmt::format("longspan-{:016x}{:016x}", random[0], random[1])};
  if (!listener.fd) return system_error("shm: socket", errno);
  const SocketAddress address = unix_address(listener.name);
  if (::bind(listener.fd.get(), address.get(), address.length) != 0) return system_error("shm: bind", errno);
  if (::listen(listener.fd.get(), kBacklog) != 0) return system_error("shm: listen", errno);
  return listener;
}

Result<std::optional<Fd>> dial(std::string_view name) {
  Fd fd = packet_socket();
  if (!fd) return system_error("shm: socket", errno);
  const SocketAddress address = unix_address(name);
  if (::connect(fd.get(), address.get(), address.length) == 0) return std::optional(std::move(fd));
  if (errno == EAGAIN || errno == EINTR) return std::optional<Fd>();
  return system_error("shm: connect", errno);
}

Fd accept_next(const Fd& listener) {
  return Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

Process process_behind(const Fd& socket) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return {};
  return {credentials.pid, credentials.uid};
}

Fd watch_process(pid_t pid) {
  if (pid <= 0) return Fd();  // it lives in a pid namespace that this process does not see
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

Status send_packet(const Fd& socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
  const int error = errno;
  if (error == EAGAIN || error == ENOBUFS) return Status(StatusCode::kResource, "shm: the peer's socket is full");
  return system_error("shm: sendmsg", error);
}

Received receive_packet(const Fd& socket, std::span<std::byte> bytes, std::size_t& length, std::vector<Fd>& fds) {
  iovec part{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = ::recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  // A peer that closed with something unread resets the connection, which is told once; what it had sent is still
  // there.
  if (got < 0 && errno == ECONNRESET) got = ::recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? Received::kNothing : Received::kEnd;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  length = static_cast<std::size_t>(got);
  return got == 0 ? Received::kEnd : Received::kPacket;
}

}  // namespace longspan::shm
