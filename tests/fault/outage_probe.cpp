// A rank that reduces until that fails, and then says what it was told and how long the failing call took, by its own
// clock:
//   outage_probe SECONDS   (the deadline is LONGSPAN_TIMEOUT)
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "longspan/communicator.hpp"

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(argc > 1 ? std::atoi(argv[1]) : 30);
  auto comm = longspan::Communicator::create();
  if (!comm.ok()) {
    std::printf("create: %s\n", comm.status().to_string().c_str());
    return 2;
  }
  std::vector<float> data(std::size_t{4} << 20, 1.0F);
  while (Clock::now() < end) {
    const auto began = Clock::now();
    const longspan::Status status =
        comm->all_reduce(data.data(), data.data(), data.size(), longspan::DataType::kFloat32, longspan::ReduceOp::kMax);
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    if (status.ok()) continue;
    std::printf("failed after %.3f s: %s\n", seconds, status.to_string().c_str());
    return 0;
  }
  std::printf("nothing failed\n");
  return 1;
}
