#include "harness/benchmark.hpp"
#include "harness/elements.hpp"

namespace longspan::perf {
namespace {

class Broadcast final : public Benchmark {
 public:
  std::string program() const override { return "broadcast_perf"; }
  std::optional<CollectiveShape> shape(const Case& run) const override {
    CollectiveShape shape{Collective::kBroadcast};
    shape.root = run.root;
    return shape;
  }
  std::size_t blocks(int) const override { return 1; }
  bool has_root() const override { return true; }
  // Everybody has both buffers, as in nccl-tests; only the root's input is read.
  std::size_t in_blocks(int, int, int) const override { return 1; }
  std::size_t out_blocks(int, int, int) const override { return 1; }
  void fill(void* in, const Case& run, int rank, int) const override {
    fill_pattern(in, 0, run.count, size_of(run.type), static_cast<std::uint64_t>(rank));
  }
  Status call(Communicator& comm, const void* in, void* out, const Case& run) const override {
    return comm.broadcast(in, out, run.count, run.type, run.root);
  }
  std::uint64_t wrong(const void* out, const Case& run, int, int) const override {
    return count_wrong_pattern(out, 0, run.count, size_of(run.type), static_cast<std::uint64_t>(run.root));
  }
  double bus_factor(int) const override { return 1; }
};

}  // namespace
}  // namespace longspan::perf

int main(int argc, char** argv) { return longspan::perf::run_benchmark(longspan::perf::Broadcast(), argc, argv); }
