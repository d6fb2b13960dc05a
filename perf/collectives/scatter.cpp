#include "harness/benchmark.hpp"
#include "harness/elements.hpp"

namespace longspan::perf {
namespace {

class Scatter final : public Benchmark {
 public:
  std::string program() const override { return "scatter_perf"; }
  std::optional<CollectiveShape> shape(const Case& run) const override {
    CollectiveShape shape{Collective::kScatter};
    shape.root = run.root;
    return shape;
  }
  std::size_t blocks(int ranks) const override { return static_cast<std::size_t>(ranks); }
  bool has_root() const override { return true; }
  bool has_in_place() const override { return false; }  // only the root's block could be; nccl-tests times none either
  std::size_t in_blocks(int rank, int ranks, int root) const override {
    return rank == root ? static_cast<std::size_t>(ranks) : 0;
  }
  std::size_t out_blocks(int, int, int) const override { return 1; }
  void fill(void* in, const Case& run, int rank, int ranks) const override {
    if (rank == run.root) fill_pattern(in, 0, run.count * static_cast<std::size_t>(ranks), size_of(run.type), 0);
  }
  Status call(Communicator& comm, const void* in, void* out, const Case& run) const override {
    return comm.scatter(in, out, run.count, run.type, run.root);
  }
  std::uint64_t wrong(const void* out, const Case& run, int rank, int) const override {
    return count_wrong_pattern(out, run.count * static_cast<std::size_t>(rank), run.count, size_of(run.type), 0);
  }
  double bus_factor(int ranks) const override { return static_cast<double>(ranks - 1) / ranks; }
};

}  // namespace
}  // namespace longspan::perf

int main(int argc, char** argv) { return longspan::perf::run_benchmark(longspan::perf::Scatter(), argc, argv); }
