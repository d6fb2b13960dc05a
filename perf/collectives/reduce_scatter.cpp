#include "harness/benchmark.hpp"
#include "harness/elements.hpp"

namespace longspan::perf {
namespace {

class ReduceScatter final : public Benchmark {
 public:
  std::string program() const override { return "reduce_scatter_perf"; }
  std::optional<CollectiveShape> shape(const Case&) const override {
    return CollectiveShape{Collective::kReduceScatter};
  }
  std::size_t blocks(int ranks) const override { return static_cast<std::size_t>(ranks); }
  bool has_op() const override { return true; }
  std::size_t in_blocks(int, int ranks, int) const override { return static_cast<std::size_t>(ranks); }
  std::size_t out_blocks(int, int, int) const override { return 1; }
  std::size_t in_place_block(int rank) const override { return static_cast<std::size_t>(rank); }
  void fill(void* in, const Case& run, int rank, int ranks) const override {
    fill_operand(in, 0, run.count * static_cast<std::size_t>(ranks), run.type, run.op, rank, ranks);
  }
  Status call(Communicator& comm, const void* in, void* out, const Case& run) const override {
    CollectiveCall call;
    call.kind = Collective::kReduceScatter;
    call.in = in;
    call.out = out;
    call.count = run.count;
    call.type = run.type;
    call.op = run.op;
    call.factor = premul_factor(comm.rank());
    return comm.run(call);
  }
  std::uint64_t wrong(const void* out, const Case& run, int rank, int ranks) const override {
    return count_wrong_reduction(out, run.count * static_cast<std::size_t>(rank), run.count, run.type, run.op, ranks);
  }
  double bus_factor(int ranks) const override { return static_cast<double>(ranks - 1) / ranks; }
};

}  // namespace
}  // namespace longspan::perf

int main(int argc, char** argv) { return longspan::perf::run_benchmark(longspan::perf::ReduceScatter(), argc, argv); }
