// Ranks that are processes: each has a driver of its own, and those of one host read each other's device memory. The
// process of the tests never touches the driver, which a child could not use then.
#include <algorithm>

#include "cases.hpp"
#include "harness/elements.hpp"
#include "support/rank_processes.hpp"

namespace longspan {
namespace {

using test::Buffer;
using test::Case;
using test::Placing;
using testing::RankJob;

constexpr const char* kSkipped = "skipped";
bool g_ready = false;  // in a rank's process

RankJob on_one_host(int ranks) {
  RankJob job;
  job.topology = "version = 1\n[[host]]\nname = \"one\"\naddress = \"127.0.0.1\"\n";
  job.hosts.assign(static_cast<std::size_t>(ranks), "one");
  job.limit = std::chrono::seconds(100);
  return job;
}

/// The first rank that has a problem; a driver that is missing is none.
std::string first_problem(RankJob job, const std::function<std::string(Communicator&)>& body,
                          test::gpu::Needs needs = test::gpu::Needs::kAnyDriver) {
  job.prepare = [needs] { g_ready = test::gpu::ready(needs); };
  const auto outcomes =
      testing::run_ranks(job, [&](Communicator& comm) { return g_ready ? body(comm) : std::string(kSkipped); });
  for (std::size_t r = 0; r < outcomes.size(); ++r) {
    const std::string& report = outcomes[r].report;
    if (!report.empty() && report != kSkipped && r != job.silent) return "rank " + std::to_string(r) + ": " + report;
  }
  return "";
}

std::string every_collective(Communicator& comm) {
  for (const Collective kind : {Collective::kAllReduce, Collective::kAllGather, Collective::kReduceScatter,
                                Collective::kBroadcast, Collective::kReduce, Collective::kGather, Collective::kScatter,
                                Collective::kAllToAll}) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{1003}, std::size_t{300'000}}) {
      const bool odd = comm.rank() % 2 == 1;
      for (const Placing placing :
           {Placing{true, true}, Placing{true, true, true}, Placing{odd, true}, Placing{false, odd}}) {
        const Case made{kind, count, DataType::kFloat32, ReduceOp::kSum, comm.size() - 1};
        if (auto problem = test::run_case(comm, made, placing); !problem.empty()) return problem;
      }
    }
  }
  return "";
}

std::string all_reduce_of(Communicator& comm, test::gpu::Memory& in, test::gpu::Memory& out, std::size_t count) {
  const std::vector<float> given(count, static_cast<float>(comm.rank() + 1));
  std::vector<float> got(count);
  in.upload(given.data(), count * 4);
  const Status status = comm.all_reduce(in.get(), out.get(), count, DataType::kFloat32, ReduceOp::kSum);
  if (!status.ok()) return status.to_string();
  out.download(got.data(), count * 4);
  const auto expected = static_cast<float>(comm.size() * (comm.size() + 1) / 2);
  return std::count(got.begin(), got.end(), expected) == static_cast<std::ptrdiff_t>(count) ? "" : "wrong elements";
}

}  // namespace

TEST_CASE("Processes of one host run every collective on device memory") {
  for (const int ranks : {2, 3}) CHECK(first_problem(on_one_host(ranks), every_collective) == "");
}

TEST_CASE("Processes of two regions run every collective on device memory") {
  RankJob job = testing::two_regions(1, "8 Gbit/s");
  job.hosts = {"eu-0", "eu-0", "us-0"};
  job.limit = std::chrono::seconds(100);
  CHECK(first_problem(job, [](Communicator& comm) -> std::string {
          if (auto problem = every_collective(comm); !problem.empty()) return problem;
          const bool maps = !test::gpu::is_double() || test::gpu::opened() > 0 || comm.rank() == 2;
          return maps ? "" : "the neighbour's memory was not mapped";
        }) == "");
}

TEST_CASE("Peers of one host read each other's device memory: nothing goes through the host") {
  CHECK(first_problem(
            on_one_host(3),
            [](Communicator& comm) -> std::string {
              constexpr std::size_t kCount = 100'000;
              const int on = test::device_of(comm);
              test::gpu::Memory in(on, kCount * 4), out(on, kCount * 4);
              for (int i = 0; i < 3; ++i) {
                if (auto problem = all_reduce_of(comm, in, out, kCount); !problem.empty()) return problem;
              }
              Buffer from(true, on, kCount), to(true, on, kCount);
              CallGroup group;
              comm.send(from.get(), kCount, DataType::kUint8, (comm.rank() + 1) % comm.size());
              comm.recv(to.get(), kCount, DataType::kUint8, (comm.rank() + 2) % comm.size());
              if (const Status status = group.end(); !status.ok()) return status.to_string();
              if (test::gpu::opened() == 0) return "no peer's memory was mapped";
              if (test::gpu::pinned_bytes() != 0) return "page-locked memory was taken";
              const Status status = comm.barrier();  // who leaves takes his memory with him
              return status.ok() ? "" : status.to_string();
            },
            test::gpu::Needs::kDouble) == "");
}

TEST_CASE("Buffers that come and go leave no more than some mappings behind") {
  CHECK(first_problem(
            on_one_host(2),
            [](Communicator& comm) -> std::string {
              for (int i = 0; i < 300; ++i) {
                test::gpu::Memory in(test::device_of(comm), 4000), out(test::device_of(comm), 4000);
                if (auto problem = all_reduce_of(comm, in, out, 1000); !problem.empty()) return problem;
              }
              return test::gpu::opened() <= 256 ? "" : std::to_string(test::gpu::opened()) + " are mapped";
            },
            test::gpu::Needs::kDouble) == "");
}

TEST_CASE("Device memory that other processes cannot be given goes through the host") {
  CHECK(first_problem(
            on_one_host(2),
            [](Communicator& comm) -> std::string {
              constexpr std::size_t kCount = 50'000;
              test::gpu::Memory in = test::gpu::Memory::without_handle(test::device_of(comm), kCount * 4);
              test::gpu::Memory out = test::gpu::Memory::without_handle(test::device_of(comm), kCount * 4);
              for (int i = 0; i < 2; ++i) {
                if (auto problem = all_reduce_of(comm, in, out, kCount); !problem.empty()) return problem;
              }
              return "";
            },
            test::gpu::Needs::kDouble) == "");
}

TEST_CASE("Where one device cannot map another's memory, it goes through the host") {
  CHECK(first_problem(
            on_one_host(2),
            [](Communicator& comm) -> std::string {
              constexpr std::size_t kCount = 50'000;
              if (comm.rank() == 1) test::gpu::inject("cuIpcOpenMemHandle_v2", 217, 0);
              test::gpu::Memory in(test::device_of(comm), kCount * 4), out(test::device_of(comm), kCount * 4);
              for (int i = 0; i < 3; ++i) {
                if (auto problem = all_reduce_of(comm, in, out, kCount); !problem.empty()) return problem;
              }
              return test::gpu::pending_injections() == 0 ? "" : "nothing was mapped";
            },
            test::gpu::Needs::kDouble) == "");
}

TEST_CASE("A process that dies amid device memory is named") {
  RankJob job = on_one_host(3);
  job.silent = 2;  // neither the hub of the control plane nor its standby: those who are told may leave at once
  CHECK(first_problem(job, [](Communicator& comm) -> std::string {
          constexpr std::size_t kCount = 200'000;
          test::gpu::Memory in(test::device_of(comm), kCount * 4), out(test::device_of(comm), kCount * 4);
          if (auto problem = all_reduce_of(comm, in, out, kCount); !problem.empty()) return problem;
          if (comm.rank() == 2) ::_exit(3);
          const Status status = comm.all_reduce(in.get(), out.get(), kCount, DataType::kFloat32, ReduceOp::kSum);
          const Status told = status.ok() ? comm.barrier() : status;
          return told.message().find("rank 2") != std::string_view::npos ? "" : "it says: " + told.to_string();
        }) == "");
}

}  // namespace longspan
