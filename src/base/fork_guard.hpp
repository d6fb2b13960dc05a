#pragma once

#include <cstdint>

/// A child after fork() (a data loader's worker) inherits our sockets: while it lives, peers would not see our death,
/// and what it closes or says would be said in our name. So every descriptor we own is on a list, and the child closes
/// its copies at once without touching the connections.
namespace longspan::fork_guard {

/// From now on children close what is on the list. Called by whoever has something to protect; further calls are free.
void install();
/// An owned descriptor came (-1: nothing).
void opened(int fd) noexcept;
/// It is about to be closed or given away; false when it belongs to the parent of this process, and must not be.
bool closing(int fd) noexcept;
/// How many forks lie between this process and the one that called install; changes in a child.
std::uint64_t generation() noexcept;

}  // namespace longspan::fork_guard
