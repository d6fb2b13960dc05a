// A call in a stream begins after what is before it there, and what comes after it waits for the result; the host does
// not.
#include <cstring>

#include "cases.hpp"
#include "harness/elements.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using test::Case;
using test::Job;
using test::Placing;
using test::gpu::ready;

constexpr std::size_t kCount = 50'000;

/// Allreduces `rounds` times in a stream: each round's input is put there by a copy in the stream, and its result is
/// taken by one.
std::string in_stream(Communicator& comm, int rounds, bool device) {
  const int on = test::device_of(comm);
  test::gpu::Stream stream(on);
  test::Buffer in(device, on, kCount * 4);
  test::Buffer out(device, on, kCount * 4);
  std::vector<std::vector<float>> given, got;
  for (int i = 0; i < rounds; ++i) {
    given.emplace_back(kCount, static_cast<float>(comm.rank() + i));
    got.emplace_back(kCount, -1.0f);
  }
  bool waited = false;
  stream.close_gate();
  for (std::size_t i = 0; i < given.size(); ++i) {
    stream.copy(in.get(), given[i].data(), kCount * 4);
    const Status status =
        comm.all_reduce(in.get(), out.get(), kCount, DataType::kFloat32, ReduceOp::kSum, stream.get());
    if (!status.ok()) {
      stream.open_gate();
      return stream.synchronize() == 0 ? status.to_string() : "the stream failed";
    }
    stream.copy(got[i].data(), out.get(), kCount * 4);
    if (i == 0) {
      waited = !stream.idle();
      stream.open_gate();
    }
  }
  if (const int code = stream.synchronize(); code != 0) return "the stream failed with " + std::to_string(code);
  if (!waited) return "the stream did not wait";
  const int ranks = comm.size();
  for (int i = 0; i < rounds; ++i) {
    const auto expected = static_cast<float>(ranks * (ranks - 1) / 2 + ranks * i);
    for (const float each : got[static_cast<std::size_t>(i)]) {
      if (each != expected)
        return "round " + std::to_string(i) + ": " + std::to_string(each) + " instead of " + std::to_string(expected);
    }
  }
  return comm.error().ok() ? "" : comm.error().to_string();
}

}  // namespace

TEST_CASE("A stream orders collectives of device memory") {
  if (!ready()) return;
  for (const int ranks : {1, 2, 3}) {
    Job job;
    job.ranks = ranks;
    INFO(ranks << " ranks");
    CHECK(test::first_problem(test::run(job, [](Communicator& comm) { return in_stream(comm, 5, true); })) == "");
  }
  CHECK(test::first_problem(
            test::run(test::two_regions(2, 1), [](Communicator& comm) { return in_stream(comm, 5, true); })) == "");
}

TEST_CASE("A stream orders collectives of host memory too") {
  if (!ready()) return;
  CHECK(test::first_problem(test::run(Job{}, [](Communicator& comm) { return in_stream(comm, 5, false); })) == "");
}

TEST_CASE("More calls than a stream holds are no deadlock") {
  if (!ready()) return;
  CHECK(test::first_problem(test::run(Job{}, [](Communicator& comm) { return in_stream(comm, 100, true); })) == "");
}

TEST_CASE("Every operation with a factor, and in place, in a stream") {
  if (!ready()) return;
  CHECK(test::first_problem(test::run(test::two_regions(2, 1), [](Communicator& comm) -> std::string {
          test::gpu::Stream stream(test::device_of(comm));
          for (const bool device : {true, false}) {
            for (const Collective kind : {Collective::kAllReduce, Collective::kAllToAll}) {
              const ReduceOp op = kind == Collective::kAllReduce ? ReduceOp::kPremulSum : ReduceOp::kSum;
              const Case made{kind, 3001, DataType::kFloat32, op, 0};
              test::Call run(comm, made, Placing{device, device, true});
              run.call.stream = stream.get();
              Work work = comm.start(run.call);
              if (const Status status = work.wait(); !status.ok()) return status.to_string();
              if (test::wrong_elements(made, run.result(), comm.rank(), comm.size()) != 0)
                return test::text_of(made, Placing{device, device, true});
            }
          }
          const Status status = comm.barrier(stream.get());
          if (!status.ok()) return status.to_string();
          return stream.synchronize() == 0 ? "" : "the barrier in the stream failed";
        })) == "");
}

TEST_CASE("A stream that captures a graph is refused, with what to do") {
  if (!ready(test::gpu::Needs::kDouble)) return;
  CHECK(test::first_problem(test::run(Job{}, [](Communicator& comm) -> std::string {
          test::gpu::Stream stream(test::device_of(comm));
          test::gpu::set_capturing(stream, true);
          const Status status = comm.barrier(stream.get());
          test::gpu::set_capturing(stream, false);
          if (status.code() != StatusCode::kUnsupported || status.message().find("graph") == std::string_view::npos)
            return status.to_string();
          const Status after = comm.barrier(stream.get());
          if (!after.ok()) return after.to_string();
          return stream.synchronize() == 0 ? "" : "the barrier afterwards failed";
        })) == "");
}

}  // namespace longspan
