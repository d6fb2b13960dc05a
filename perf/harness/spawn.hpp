#pragma once

#include <functional>

namespace longspan::perf {

/// Runs `body` in `ranks` processes on this host with torchrun's environment; the first exit code that is not 0. When
/// one rank fails the others get a grace period, then are ended.
int spawn_ranks(int ranks, const std::function<int()>& body);

}  // namespace longspan::perf
