// Device memory in every collective: the same elements as with host memory, wherever each rank has its buffers.
#include <atomic>

#include "cases.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using test::Case;
using test::Job;
using test::Placing;
using test::gpu::ready;

constexpr Collective kKinds[] = {Collective::kAllReduce, Collective::kAllGather, Collective::kReduceScatter,
                                 Collective::kBroadcast, Collective::kReduce,    Collective::kGather,
                                 Collective::kScatter,   Collective::kAllToAll};

/// Every collective with all buffers on devices, one side only, in place, and with ranks that differ.
std::string everything(Communicator& comm) {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{65537}}) {
    for (const Collective kind : kKinds) {
      for (const int root : {0, comm.size() - 1}) {
        const Case made{kind, count, DataType::kFloat32, ReduceOp::kSum, root};
        const bool odd = comm.rank() % 2 == 1;
        for (const Placing placing : {Placing{true, true}, Placing{true, false}, Placing{false, true},
                                      Placing{odd, odd}, Placing{true, true, true}}) {
          if (auto problem = test::run_case(comm, made, placing); !problem.empty()) return problem;
        }
        if (kind != Collective::kBroadcast && kind != Collective::kReduce && root == 0) break;
      }
    }
    if (const Status status = comm.barrier(); !status.ok()) return status.to_string();
  }
  return {};
}

}  // namespace

TEST_CASE("Every collective takes device memory, on one host") {
  if (!ready()) return;
  for (const int ranks : {1, 2, 3, 5}) {
    Job job;
    job.ranks = ranks;
    INFO(ranks << " ranks");
    CHECK(test::first_problem(test::run(job, everything)) == "");
  }
}

TEST_CASE("Every collective takes device memory, across two regions") {
  if (!ready()) return;
  CHECK(test::first_problem(test::run(test::two_regions(2, 1), everything)) == "");
}

TEST_CASE("Every collective takes device memory, across two regions of hosts with several ranks") {
  if (!ready()) return;
  CHECK(test::first_problem(test::run(test::two_regions(1, 2), everything)) == "");
  CHECK(test::first_problem(test::run(test::two_regions(2, 2), everything)) == "");
}

TEST_CASE("Every type and operation gives the bits of host memory") {
  if (!ready()) return;
  const Job job = GENERATE(test::two_regions(2, 1), test::two_regions(1, 2));
  CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
          for (int type = 0; type < kDataTypeCount; ++type) {
            for (int op = 0; op < kReduceOpCount; ++op) {
              for (const std::size_t count : {std::size_t{3}, std::size_t{4099}}) {
                const Case made{Collective::kAllReduce, count, static_cast<DataType>(type), static_cast<ReduceOp>(op),
                                0};
                if (auto problem = test::run_case(comm, made, Placing{true, true, type % 2 == 0}); !problem.empty())
                  return problem;
              }
            }
          }
          return {};
        })) == "");
}

TEST_CASE("A large allreduce of device memory runs in many chunks through a ring of host memory") {
  if (!ready()) return;
  const std::size_t before = test::gpu::is_double() ? test::gpu::pinned_bytes() : 0;
  std::atomic<std::size_t> most{0};
  constexpr std::size_t kCount = 3'000'001;
  const Job job = GENERATE(test::two_regions(2, 1), test::two_regions(1, 2));
  CHECK(test::first_problem(test::run(job, [&](Communicator& comm) -> std::string {
          for (const bool in_place : {true, false}) {
            const Case made{Collective::kAllReduce, kCount, DataType::kFloat32, ReduceOp::kSum, 0};
            if (auto problem = test::run_case(comm, made, Placing{true, true, in_place}); !problem.empty())
              return problem;
          }
          if (test::gpu::is_double()) most = std::max(most.load(), test::gpu::pinned_bytes());
          return {};
        })) == "");
  if (test::gpu::is_double()) CHECK(test::gpu::pinned_bytes() == before);  // all of it is given back
}

TEST_CASE("The context of the calling thread stays as it was") {
  if (!ready()) return;
  CHECK(test::first_problem(test::run(Job{}, [](Communicator& comm) -> std::string {
          if (auto problem = test::run_case(comm, Case{Collective::kAllReduce, 100}, Placing{}); !problem.empty())
            return problem;
          return test::gpu::current_context() == nullptr ? "" : "a context was left current";
        })) == "");
}

}  // namespace longspan
