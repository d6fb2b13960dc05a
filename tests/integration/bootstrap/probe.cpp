// What a launcher starts in launchers_test.cpp: finds its peers by the environment alone, and says who they are.
#include <fmt/format.h>

#include "bootstrap/launch.hpp"
#include "bootstrap/rendezvous.hpp"

int main() {
  using namespace longspan;
  const auto info = launch_info_from_environment();
  if (!info.ok()) {
    fmt::print("probe: {}\n", info.status().to_string());
    return 1;
  }
  bootstrap::RendezvousRequest request;
  request.launch = *info;
  request.payload = std::to_string(info->rank);
  request.deadline = Clock::now() + std::chrono::seconds(20);
  const auto met = bootstrap::exchange(std::move(request));
  if (!met.ok()) {
    fmt::print("probe: {}\n", met.status().to_string());
    return 1;
  }
  fmt::print("probe: {} {} of {} met {}\n", info->launcher, met->rank, met->size, fmt::join(met->payloads, " "));
  return 0;
}
