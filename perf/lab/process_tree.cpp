#include "lab/process_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace longspan::lab {
namespace {

/// Async-signal-safe: called between fork and exec.
bool mount_own_proc() noexcept {
  return ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0;
}

int exit_status_of(pid_t child) {
  int status = -1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// A dry run in a child: unshare(CLONE_NEWPID) cannot be undone in this process.
bool namespace_works() {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWPID) != 0) _exit(1);
    const pid_t first = ::fork();
    if (first == 0) _exit(mount_own_proc() ? 0 : 1);
    _exit(first > 0 && exit_status_of(first) == 0 ? 0 : 1);
  }
  return child > 0 && exit_status_of(child) == 0;
}

[[noreturn]] void be_first_process(int lifeline) {
  // Holding any of the lab's descriptors would keep pipes and namespaces alive.
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  ::dup2(lifeline, 3);
  ::close_range(4, ~0U, 0);
  ::signal(SIGCHLD, SIG_IGN);  // orphans are reaped by the kernel
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
  char ignored = 0;
  while (::read(3, &ignored, 1) < 0 && errno == EINTR) {
  }
  _exit(0);
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc"), &::closedir);
  if (folder == nullptr) return children;
  while (const dirent* entry = ::readdir(folder.get())) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string text;
    std::getline(file, text);
    const std::size_t name_end = text.rfind(')');
    if (name_end == std::string::npos || name_end + 4 > text.size()) continue;
    if (std::atoi(text.c_str() + name_end + 4) == parent) children.push_back(pid);
  }
  return children;
}

}  // namespace

ProcessTree::ProcessTree(ProcessTree&& other) noexcept
    : first_(std::exchange(other.first_, -1)), lifeline_(std::move(other.lifeline_)) {}

Result<ProcessTree> ProcessTree::create() {
  ProcessTree tree;
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (!namespace_works()) return tree;
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("pipe2", errno);
  Fd reader(ends[0]);
  tree.lifeline_.reset(ends[1]);
  if (::unshare(CLONE_NEWPID) != 0) return system_error("unshare(CLONE_NEWPID)", errno);
  const pid_t first = ::fork();
  if (first < 0) return system_error("fork", errno);
  if (first == 0) be_first_process(reader.get());
  tree.first_ = first;
  return tree;
}

bool ProcessTree::enter_from_child() const noexcept { return !contained() || mount_own_proc(); }

void ProcessTree::kill_all() {
  if (contained()) {
    ::kill(first_, SIGKILL);
    (void)exit_status_of(first_);
    first_ = -1;
    return;
  }
  // Orphans become children of this process, so the tree shrinks from the top until nothing is left.
  for (auto children = children_of(::getpid()); !children.empty(); children = children_of(::getpid())) {
    for (const pid_t child : children) {
      ::kill(child, SIGKILL);
      (void)exit_status_of(child);
    }
  }
}

ProcessTree::~ProcessTree() {
  if (contained()) kill_all();
}

}  // namespace longspan::lab
