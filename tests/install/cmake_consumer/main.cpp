#include <longspan/communicator.hpp>

#include <cstdio>
#include <vector>

int main() {
  auto comm = longspan::Communicator::create();  // no launcher: one rank alone
  if (!comm.ok()) {
    std::printf("%s\n", comm.status().to_string().c_str());
    return 1;
  }
  std::vector<float> x(1000, 2.0f);
  const auto status =
      comm->all_reduce(x.data(), x.data(), x.size(), longspan::DataType::kFloat32, longspan::ReduceOp::kSum);
  return status.ok() && x[999] == 2.0f ? 0 : 1;
}
