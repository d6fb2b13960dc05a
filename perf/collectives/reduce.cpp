#include "harness/benchmark.hpp"
#include "harness/elements.hpp"

namespace longspan::perf {
namespace {

class Reduce final : public Benchmark {
 public:
  std::string program() const override { return "reduce_perf"; }
  std::optional<CollectiveShape> shape(const Case& run) const override {
    CollectiveShape shape{Collective::kReduce};
    shape.root = run.root;
    return shape;
  }
  std::size_t blocks(int) const override { return 1; }
  bool has_op() const override { return true; }
  bool has_root() const override { return true; }
  std::size_t in_blocks(int, int, int) const override { return 1; }
  // Only the root needs an output; the others have one too, as nccl-tests does.
  std::size_t out_blocks(int, int, int) const override { return 1; }
  void fill(void* in, const Case& run, int rank, int ranks) const override {
    fill_operand(in, 0, run.count, run.type, run.op, rank, ranks);
  }
  Status call(Communicator& comm, const void* in, void* out, const Case& run) const override {
    CollectiveCall call;
    call.kind = Collective::kReduce;
    call.in = in;
    call.out = out;
    call.count = run.count;
    call.type = run.type;
    call.op = run.op;
    call.root = run.root;
    call.factor = premul_factor(comm.rank());
    return comm.run(call);
  }
  std::uint64_t wrong(const void* out, const Case& run, int rank, int ranks) const override {
    return rank == run.root ? count_wrong_reduction(out, 0, run.count, run.type, run.op, ranks) : 0;
  }
  double bus_factor(int) const override { return 1; }
};

}  // namespace
}  // namespace longspan::perf

int main(int argc, char** argv) { return longspan::perf::run_benchmark(longspan::perf::Reduce(), argc, argv); }
