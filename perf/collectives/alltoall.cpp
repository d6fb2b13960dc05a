#include "harness/benchmark.hpp"
#include "harness/elements.hpp"

namespace longspan::perf {
namespace {

class AllToAll final : public Benchmark {
 public:
  std::string program() const override { return "alltoall_perf"; }
  std::optional<CollectiveShape> shape(const Case&) const override { return CollectiveShape{Collective::kAllToAll}; }
  std::size_t blocks(int ranks) const override { return static_cast<std::size_t>(ranks); }
  bool has_in_place() const override { return false; }
  std::size_t in_blocks(int, int ranks, int) const override { return static_cast<std::size_t>(ranks); }
  std::size_t out_blocks(int, int ranks, int) const override { return static_cast<std::size_t>(ranks); }
  void fill(void* in, const Case& run, int rank, int ranks) const override {
    fill_pattern(in, 0, run.count * static_cast<std::size_t>(ranks), size_of(run.type),
                 static_cast<std::uint64_t>(rank));
  }
  Status call(Communicator& comm, const void* in, void* out, const Case& run) const override {
    return comm.all_to_all(in, out, run.count, run.type);
  }
  std::uint64_t wrong(const void* out, const Case& run, int rank, int ranks) const override {
    std::uint64_t wrong = 0;
    for (int r = 0; r < ranks; ++r) {
      const auto* block = static_cast<const std::byte*>(out) + static_cast<std::size_t>(r) * run.block_bytes();
      wrong += count_wrong_pattern(block, run.count * static_cast<std::size_t>(rank), run.count, size_of(run.type),
                                   static_cast<std::uint64_t>(r));
    }
    return wrong;
  }
  double bus_factor(int ranks) const override { return static_cast<double>(ranks - 1) / ranks; }
};

}  // namespace
}  // namespace longspan::perf

int main(int argc, char** argv) { return longspan::perf::run_benchmark(longspan::perf::AllToAll(), argc, argv); }
