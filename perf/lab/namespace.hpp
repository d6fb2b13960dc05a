#pragma once

#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "longspan/status.hpp"

namespace longspan::lab {

/// What this process may do, and so how the lab runs.
struct Privileges {
  bool user_namespace = false;  ///< ranks run as root of a user namespace of the lab's own
};

/// Makes sure that network namespaces can be made: as root, or else in a new user namespace where the caller is root.
/// Must be called before the process starts a thread. Leaves the calling process in an empty network namespace of its
/// own, which it never leaves: what the lab makes is unreachable from the machine's network.
Result<Privileges> acquire_network_privileges();

/// An anonymous network namespace: it lives as long as this object or a process inside it, so nothing can be left over.
class Namespace {
 public:
  /// Makes an empty one with loopback up.
  static Result<Namespace> create(std::string name);

  const std::string& name() const noexcept { return name_; }
  int fd() const noexcept { return fd_.get(); }
  /// How `ip` may name this namespace: a path under /proc.
  std::string path() const;

  /// Runs `ip -batch` with these lines inside the namespace.
  Status ip(std::string_view batch) const;
  /// Runs `tc -batch` with these lines inside the namespace.
  Status tc(std::string_view batch) const;
  /// What a command prints, run inside the namespace.
  Result<std::string> output_of(const char* const* argv, std::string_view input = {}) const;
  /// Sets a value under /proc/sys/net, e.g. "ipv4/ip_forward".
  Status set_sysctl(const std::string& name, std::string_view value) const;
  /// The text of /proc/net/dev inside the namespace.
  Result<std::string> device_counters() const;

 private:
  Namespace(std::string name, Fd fd) : name_(std::move(name)), fd_(std::move(fd)) {}

  std::string name_;
  Fd fd_;
};

/// Puts the calling thread into a namespace for as long as it lives.
class ScopedNamespace {
 public:
  explicit ScopedNamespace(const Namespace& space);
  ~ScopedNamespace();
  ScopedNamespace(const ScopedNamespace&) = delete;
  ScopedNamespace& operator=(const ScopedNamespace&) = delete;

  /// Whether the namespace was entered.
  const Status& status() const noexcept { return status_; }

 private:
  Fd previous_;
  Status status_;
};

}  // namespace longspan::lab
