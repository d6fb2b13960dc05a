// What the driver refuses becomes an error that says so, on all ranks, and no stream is left waiting.
#include "cases.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using test::Case;
using test::Job;
using test::Placing;
using test::gpu::Needs;
using test::gpu::ready;

/// All ranks end with one error that names `call` and rank 0, where it was injected.
std::string fails(const char* call, const char* says, int code, bool in_stream) {
  Job job;
  job.timeout = std::chrono::seconds(20);
  const auto reports = test::run(job, [&](Communicator& comm) -> std::string {
    if (auto problem = test::run_case(comm, Case{Collective::kAllReduce, 100'000}, Placing{}); !problem.empty())
      return problem;
    // All are done with that; who is still in here when rank 0 fails is told by the next call as well.
    static_cast<void>(comm.barrier());
    test::gpu::Stream stream(test::device_of(comm));
    test::Call run(comm, Case{Collective::kAllReduce, 100'000}, Placing{true, comm.rank() == 0});
    if (in_stream) run.call.stream = stream.get();
    if (comm.rank() != 0)
      run.call.in = run.call.out;  // on the host: only rank 0 calls the driver
    else
      test::gpu::inject(call, code, 0);
    Status status = comm.start(run.call).wait();
    if (stream.synchronize() != 0) return "the stream does not go on";
    if (status.ok() && comm.rank() != 0) status = comm.barrier();  // its own result may have been there before
    if (status.ok()) return "it did not fail";
    if (std::string(status.message()).find(says) == std::string::npos) return status.to_string();
    if (std::string(status.message()).find("rank 0") == std::string::npos)
      return "does not name rank 0: " + status.to_string();
    return comm.error().ok() ? "the communicator goes on" : "";
  });
  const int left = test::gpu::pending_injections();
  return left != 0 ? "the driver was not called" : test::first_problem(reports);
}

}  // namespace

TEST_CASE("A refused copy is an error of the call, with the driver's name of it") {
  if (!ready(Needs::kDouble)) return;
  CHECK(fails("cuMemcpyDtoHAsync_v2", "cuMemcpyDtoHAsync: CUDA_ERROR_ILLEGAL_ADDRESS (700)", 700, false) == "");
  CHECK(fails("cuMemcpyHtoDAsync_v2", "cuMemcpyHtoDAsync: CUDA_ERROR_ILLEGAL_ADDRESS (700)", 700, false) == "");
}

TEST_CASE("A refused copy lets the stream go on") {
  if (!ready(Needs::kDouble)) return;
  CHECK(fails("cuMemcpyDtoHAsync_v2", "cuMemcpyDtoHAsync: CUDA_ERROR_ILLEGAL_ADDRESS (700)", 700, true) == "");
}

TEST_CASE("A device that fails while it copies is noticed, although nobody tells") {
  if (!ready(Needs::kDouble)) return;
  CHECK(fails("fault in cuMemcpyDtoHAsync", "cuStreamQuery: CUDA_ERROR_ILLEGAL_ADDRESS (700)", 1, false) == "");
}

TEST_CASE("Memory that cannot be locked is told in bytes") {
  if (!ready(Needs::kDouble)) return;
  CHECK(test::first_problem(test::run(Job{}, [](Communicator& comm) -> std::string {
          if (comm.rank() == 0) test::gpu::inject("cuMemHostAlloc", 2, 0);
          test::Call run(comm, Case{Collective::kAllReduce, 100'000}, Placing{comm.rank() == 0, comm.rank() == 0});
          const Status own = comm.run(run.call);
          const Status status = comm.barrier();  // nobody leaves before all know
          if (own.ok()) return "it did not fail";
          const bool told = status.message().find("bytes of page-locked memory") != std::string_view::npos &&
                            status.message().find("CUDA_ERROR_OUT_OF_MEMORY") != std::string_view::npos;
          return told ? "" : status.to_string();
        })) == "");
}

TEST_CASE("Overlapping device buffers of an alltoall are refused unless they are the same") {
  if (!ready(Needs::kDouble)) return;
  CHECK(test::first_problem(test::run(Job{}, [](Communicator& comm) -> std::string {
          test::gpu::Memory memory(test::device_of(comm), 4096);
          const Status status =
              comm.all_to_all(memory.get(), static_cast<std::byte*>(memory.get()) + 64, 100, DataType::kInt32);
          if (status.code() != StatusCode::kInvalidArgument) return status.to_string();
          return test::run_case(comm, Case{Collective::kAllReduce, 100}, Placing{});  // an argument error ends nothing
        })) == "");
}

TEST_CASE("A message whose copy is refused ends with the driver's name of it, on both ranks") {
  if (!ready(Needs::kDouble)) return;
  const auto reports = test::run(test::two_regions(1, 1), [](Communicator& comm) -> std::string {
    test::gpu::Memory memory(test::device_of(comm), 4'000'000);
    if (comm.rank() == 0) test::gpu::inject("cuMemcpyDtoHAsync_v2", 700, 2);
    Work work = comm.rank() == 0 ? comm.send(memory.get(), 1'000'000, DataType::kInt32, 1)
                                 : comm.recv(memory.get(), 1'000'000, DataType::kInt32, 0);
    const Status status = work.wait();
    const bool told = status.message().find("CUDA_ERROR_ILLEGAL_ADDRESS") != std::string_view::npos &&
                      status.message().find("send to rank 1") != std::string_view::npos;
    return told ? "" : status.to_string();
  });
  CHECK(test::gpu::pending_injections() == 0);
  CHECK(test::first_problem(reports) == "");
}

TEST_CASE("An abort lets streams go on, and a stream that comes late finds nothing to do") {
  if (!ready(Needs::kDouble)) return;
  CHECK(test::first_problem(test::run(Job{}, [](Communicator& comm) -> std::string {
          test::gpu::Stream stream(test::device_of(comm));
          test::Call run(comm, Case{Collective::kAllReduce, 1000}, Placing{});
          run.call.stream = stream.get();
          stream.close_gate();
          Work work = comm.start(run.call);
          comm.abort("the test has seen enough");
          const Status status = work.wait();
          stream.open_gate();
          if (stream.synchronize() != 0) return "the stream does not go on";
          return status.code() == StatusCode::kAborted ? "" : status.to_string();
        })) == "");
}

}  // namespace longspan
