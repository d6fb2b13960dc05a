#include "lab/namespace.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace longspan::lab {
namespace {

constexpr const char* kThreadNamespace = "/proc/thread-self/ns/net";

Status write_file(const std::string& path, std::string_view text) {
  Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return system_error("open " + path, errno);
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return system_error("write " + path, errno);
  }
  return {};
}

Result<std::string> read_all(int fd) {
  std::string text;
  std::array<char, 4096> chunk{};
  while (true) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got == 0) return text;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("read", errno);
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

/// The child's side: only async-signal-safe calls.
[[noreturn]] void exec_with(int in, int out, const char* const* argv) {
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(out, STDERR_FILENO);
  ::execvp(argv[0], const_cast<char* const*>(argv));
  _exit(127);
}

Result<std::string> run_command(const char* const* argv, std::string_view input) {
  // The input is written before the command starts, so it goes through a memory file: a pipe might fill.
  Fd in(::memfd_create("lab-batch", MFD_CLOEXEC));
  if (!in) return system_error("memfd_create", errno);
  if (::write(in.get(), input.data(), input.size()) != static_cast<ssize_t>(input.size())) {
    return system_error("write to memfd", errno);
  }
  ::lseek(in.get(), 0, SEEK_SET);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("pipe2", errno);
  Fd reader(ends[0]);
  Fd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return system_error("fork", errno);
  if (child == 0) exec_with(in.get(), writer.get(), argv);
  writer.reset();
  auto text = read_all(reader.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!text.ok()) return text;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("cannot run `{}`: install it (apt-get install iproute2)", argv[0]));
  }
  if (status != 0) return Status(StatusCode::kSystem, fmt::format("`{}` failed: {}", argv[0], *text));
  return text;
}

Status enter_user_namespace() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWUSER) != 0) {
    return system_error(
        "the lab needs root or user namespaces, and unshare(CLONE_NEWUSER) failed (sysctl user.max_user_namespaces, "
        "kernel.apparmor_restrict_unprivileged_userns)",
        errno);
  }
  LONGSPAN_TRY(write_file("/proc/self/setgroups", "deny"));
  LONGSPAN_TRY(write_file("/proc/self/uid_map", fmt::format("0 {} 1", uid)));
  return write_file("/proc/self/gid_map", fmt::format("0 {} 1", gid));
}

}  // namespace

Result<Privileges> acquire_network_privileges() {
  Privileges privileges;
  if (::unshare(CLONE_NEWNET) == 0) return privileges;
  if (errno != EPERM) return system_error("unshare(CLONE_NEWNET)", errno);
  LONGSPAN_TRY(enter_user_namespace());
  privileges.user_namespace = true;
  if (::unshare(CLONE_NEWNET) != 0) return system_error("unshare(CLONE_NEWNET) in a user namespace", errno);
  return privileges;
}

Result<Namespace> Namespace::create(std::string name) {
  Fd home(::open(kThreadNamespace, O_RDONLY | O_CLOEXEC));
  if (!home) return system_error(fmt::format("open {}", kThreadNamespace), errno);
  if (::unshare(CLONE_NEWNET) != 0) return system_error("unshare(CLONE_NEWNET) for " + name, errno);
  Fd fd(::open(kThreadNamespace, O_RDONLY | O_CLOEXEC));
  const int open_error = errno;
  if (::setns(home.get(), CLONE_NEWNET) != 0) return system_error("setns back from " + name, errno);
  if (!fd) return system_error("open the namespace of " + name, open_error);
  Namespace space(std::move(name), std::move(fd));
  LONGSPAN_TRY(space.ip("link set lo up\n"));
  return space;
}

std::string Namespace::path() const { return fmt::format("/proc/{}/fd/{}", ::getpid(), fd_.get()); }

Status Namespace::ip(std::string_view batch) const {
  const std::array<const char*, 4> argv{"ip", "-batch", "-", nullptr};
  const auto output = output_of(argv.data(), batch);
  return output.ok() ? Status() : output.status().with_context(name_);
}

Status Namespace::tc(std::string_view batch) const {
  const std::array<const char*, 4> argv{"tc", "-batch", "-", nullptr};
  const auto output = output_of(argv.data(), batch);
  return output.ok() ? Status() : output.status().with_context(name_);
}

Result<std::string> Namespace::output_of(const char* const* argv, std::string_view input) const {
  const ScopedNamespace inside(*this);
  LONGSPAN_TRY(inside.status());
  return run_command(argv, input);
}

Status Namespace::set_sysctl(const std::string& name, std::string_view value) const {
  const ScopedNamespace inside(*this);
  LONGSPAN_TRY(inside.status());
  return write_file("/proc/sys/net/" + name, value);
}

Result<std::string> Namespace::device_counters() const {
  const ScopedNamespace inside(*this);
  LONGSPAN_TRY(inside.status());
  Fd file(::open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC));
  if (!file) return system_error("open /proc/thread-self/net/dev", errno);
  return read_all(file.get());
}

ScopedNamespace::ScopedNamespace(const Namespace& space) : previous_(::open(kThreadNamespace, O_RDONLY | O_CLOEXEC)) {
  if (!previous_) {
    status_ = system_error(fmt::format("open {}", kThreadNamespace), errno);
  } else if (::setns(space.fd(), CLONE_NEWNET) != 0) {
    status_ = system_error("setns into " + space.name(), errno);
    previous_.reset();
  }
}

ScopedNamespace::~ScopedNamespace() {
  // Staying in the wrong namespace would make every later step act on the wrong machine.
  if (previous_ && ::setns(previous_.get(), CLONE_NEWNET) != 0) std::abort();
}

}  // namespace longspan::lab
