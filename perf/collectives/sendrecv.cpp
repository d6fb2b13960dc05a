#include <algorithm>

#include "harness/benchmark.hpp"
#include "harness/elements.hpp"

namespace longspan::perf {
namespace {

/// Every rank sends to the next one and receives from the one before, as nccl-tests' sendrecv.
class SendRecv final : public Benchmark {
 public:
  std::string program() const override { return "sendrecv_perf"; }
  std::optional<CollectiveShape> shape(const Case&) const override { return std::nullopt; }
  std::size_t blocks(int) const override { return 1; }
  bool has_in_place() const override { return false; }  // a buffer cannot be sent and overwritten at once
  std::size_t in_blocks(int, int, int) const override { return 1; }
  std::size_t out_blocks(int, int, int) const override { return 1; }
  void fill(void* in, const Case& run, int rank, int) const override {
    fill_pattern(in, 0, run.count, size_of(run.type), static_cast<std::uint64_t>(rank));
  }
  Status call(Communicator& comm, const void* in, void* out, const Case& run) const override {
    const int ranks = comm.size();
    if (ranks == 1) {
      std::copy_n(static_cast<const std::byte*>(in), run.block_bytes(), static_cast<std::byte*>(out));
      return {};
    }
    Work receive = comm.recv(out, run.count, run.type, (comm.rank() + ranks - 1) % ranks);
    Work send = comm.send(in, run.count, run.type, (comm.rank() + 1) % ranks);
    LONGSPAN_TRY(send.wait());
    return receive.wait();
  }
  std::uint64_t wrong(const void* out, const Case& run, int rank, int ranks) const override {
    return count_wrong_pattern(out, 0, run.count, size_of(run.type),
                               static_cast<std::uint64_t>((rank + ranks - 1) % ranks));
  }
  double bus_factor(int) const override { return 1; }
};

}  // namespace
}  // namespace longspan::perf

int main(int argc, char** argv) { return longspan::perf::run_benchmark(longspan::perf::SendRecv(), argc, argv); }
