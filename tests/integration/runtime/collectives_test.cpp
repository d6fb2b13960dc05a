// Every collective gives every element its exact value, over real transports, whatever the size, type and layout.
#include <numeric>

#include "harness/elements.hpp"
#include "ranks.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using test::Job;

constexpr DataType kType = DataType::kFloat32;
const std::vector<std::size_t> kCounts{0, 1, 7, 64, 1000, 65537};

std::string text(const Status& status) { return status.ok() ? "" : status.to_string(); }

std::string expect(bool holds, const std::string& what, std::size_t count) {
  return holds ? "" : what + " is wrong for count " + std::to_string(count);
}

std::vector<std::byte> operand(std::size_t count, DataType type, ReduceOp op, int rank, int ranks) {
  std::vector<std::byte> data(count * size_of(type) + 1);
  perf::fill_operand(data.data(), 0, count, type, op, rank, ranks);
  return data;
}

std::string all_reduce(Communicator& comm, std::size_t count, DataType type, ReduceOp op, bool in_place) {
  auto in = operand(count, type, op, comm.rank(), comm.size());
  std::vector<std::byte> out(in.size());
  CollectiveCall call;
  call.in = in.data();
  call.out = in_place ? in.data() : out.data();
  call.count = count;
  call.type = type;
  call.op = op;
  call.factor = perf::premul_factor(comm.rank());
  if (auto status = comm.run(call); !status.ok()) return status.to_string();
  return expect(perf::count_wrong_reduction(call.out, 0, count, type, op, comm.size()) == 0,
                "all_reduce " + std::string(name_of(type)) + " " + std::string(name_of(op)), count);
}

std::string all_gather(Communicator& comm, std::size_t count) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  std::vector<std::uint32_t> in(count + 1), out(count * ranks + 1);
  perf::fill_pattern(in.data(), 0, count, 4, static_cast<std::uint64_t>(comm.rank()));
  if (auto status = comm.all_gather(in.data(), out.data(), count, DataType::kUint32); !status.ok()) {
    return status.to_string();
  }
  std::uint64_t wrong = 0;
  for (std::size_t r = 0; r < ranks; ++r) wrong += perf::count_wrong_pattern(out.data() + r * count, 0, count, 4, r);
  return expect(wrong == 0, "all_gather", count);
}

std::string reduce_scatter(Communicator& comm, std::size_t count) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  auto in = operand(count * ranks, kType, ReduceOp::kSum, comm.rank(), comm.size());
  std::vector<float> out(count + 1);
  if (auto status = comm.reduce_scatter(in.data(), out.data(), count, kType, ReduceOp::kSum); !status.ok()) {
    return status.to_string();
  }
  const std::size_t first = static_cast<std::size_t>(comm.rank()) * count;
  return expect(perf::count_wrong_reduction(out.data(), first, count, kType, ReduceOp::kSum, comm.size()) == 0,
                "reduce_scatter", count);
}

std::string rooted(Communicator& comm, std::size_t count, int root) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  const auto me = static_cast<std::size_t>(comm.rank());
  std::vector<std::uint32_t> block(count + 1), all(count * ranks + 1), got(count + 1);
  const bool is_root = comm.rank() == root;
  if (is_root) perf::fill_pattern(all.data(), 0, count * ranks, 4, 5);
  if (auto s = comm.scatter(all.data(), got.data(), count, DataType::kUint32, root); !s.ok()) return s.to_string();
  if (perf::count_wrong_pattern(got.data(), me * count, count, 4, 5) != 0) return expect(false, "scatter", count);
  std::vector<std::uint32_t> back(count * ranks + 1);
  if (auto s = comm.gather(got.data(), back.data(), count, DataType::kUint32, root); !s.ok()) return s.to_string();
  if (is_root && perf::count_wrong_pattern(back.data(), 0, count * ranks, 4, 5) != 0) {
    return expect(false, "gather", count);
  }
  if (is_root) perf::fill_pattern(block.data(), 0, count, 4, 9);
  if (auto s = comm.broadcast(block.data(), block.data(), count, DataType::kUint32, root); !s.ok()) {
    return s.to_string();
  }
  if (perf::count_wrong_pattern(block.data(), 0, count, 4, 9) != 0) return expect(false, "broadcast", count);
  auto in = operand(count, kType, ReduceOp::kSum, comm.rank(), comm.size());
  std::vector<float> sum(count + 1);
  if (auto s = comm.reduce(in.data(), sum.data(), count, kType, ReduceOp::kSum, root); !s.ok()) return s.to_string();
  return expect(!is_root || perf::count_wrong_reduction(sum.data(), 0, count, kType, ReduceOp::kSum, comm.size()) == 0,
                "reduce", count);
}

std::string all_to_all(Communicator& comm, std::size_t count) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  const auto me = static_cast<std::size_t>(comm.rank());
  std::vector<std::uint32_t> in(count * ranks + 1), out(count * ranks + 1);
  perf::fill_pattern(in.data(), 0, count * ranks, 4, me);
  if (auto s = comm.all_to_all(in.data(), out.data(), count, DataType::kUint32); !s.ok()) return s.to_string();
  std::uint64_t wrong = 0;
  for (std::size_t r = 0; r < ranks; ++r) {
    wrong += perf::count_wrong_pattern(out.data() + r * count, me * count, count, 4, r);
  }
  return expect(wrong == 0, "all_to_all", count);
}

std::string everything(Communicator& comm) {
  for (const std::size_t count : kCounts) {
    for (const bool in_place : {false, true}) {
      if (auto problem = all_reduce(comm, count, kType, ReduceOp::kSum, in_place); !problem.empty()) return problem;
    }
    for (auto* run : {all_gather, reduce_scatter, all_to_all}) {
      if (auto problem = run(comm, count); !problem.empty()) return problem;
    }
    for (const int root : {0, comm.size() - 1}) {
      if (auto problem = rooted(comm, count, root); !problem.empty()) return problem;
    }
    if (auto status = comm.barrier(); !status.ok()) return status.to_string();
  }
  return {};
}

}  // namespace

TEST_CASE("Every collective is right on one host") {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    Job job;
    job.ranks = ranks;
    INFO(ranks << " ranks");
    CHECK(test::first_problem(test::run(job, everything)) == "");
  }
}

TEST_CASE("Every collective is right across two regions") {
  CHECK(test::first_problem(test::run(test::two_regions(2, 1), everything)) == "");
  CHECK(test::first_problem(test::run(test::two_regions(2, 2), everything)) == "");
}

TEST_CASE("Every collective is right with three hosts facing one") {
  Job job = test::two_regions(3, 1);
  job.ranks = 4;
  job.hosts.resize(4);
  CHECK(test::first_problem(test::run(job, everything)) == "");
}

TEST_CASE("Every type and operation is exact, in place and not") {
  CHECK(test::first_problem(test::run(test::two_regions(2, 1), [](Communicator& comm) -> std::string {
          for (int type = 0; type < kDataTypeCount; ++type) {
            for (int op = 0; op < kReduceOpCount; ++op) {
              for (const std::size_t count : {std::size_t{3}, std::size_t{4099}}) {
                auto problem =
                    all_reduce(comm, count, static_cast<DataType>(type), static_cast<ReduceOp>(op), type % 2 == 0);
                if (!problem.empty()) return problem;
              }
            }
          }
          return {};
        })) == "");
}

TEST_CASE("A large allreduce runs in many chunks, also over TCP alone") {
  for (const bool tcp_only : {false, true}) {
    Job job = test::two_regions(2, 2);
    if (tcp_only) job.transports = {"tcp"};
    CHECK(test::first_problem(test::run(
              job, [](Communicator& comm) { return all_reduce(comm, 3'000'001, kType, ReduceOp::kSum, true); })) == "");
  }
}

TEST_CASE("Variable counts, as in MPI") {
  for (Job job : {Job{}, test::two_regions(2, 1)}) {
    if (job.topology.empty()) job.ranks = 3;
    CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
            const auto ranks = static_cast<std::size_t>(comm.size());
            const auto me = static_cast<std::size_t>(comm.rank());
            std::vector<std::size_t> counts, offsets;
            std::size_t total = 0;
            for (std::size_t r = 0; r < ranks; ++r) {
              counts.push_back(r == 1 ? 0 : 100 * r + 3);
              offsets.push_back(total);
              total += counts.back();
            }
            std::vector<std::uint32_t> mine(counts[me] + 1), all(total + 1), got(counts[me] + 1);
            perf::fill_pattern(mine.data(), offsets[me], counts[me], 4, 1);
            if (auto s = comm.all_gather_v(mine.data(), all.data(), counts, offsets, DataType::kUint32); !s.ok()) {
              return s.to_string();
            }
            if (perf::count_wrong_pattern(all.data(), 0, total, 4, 1) != 0) return "all_gather_v";
            std::vector<std::uint32_t> gathered(total + 1);
            if (auto s = comm.gather_v(mine.data(), counts[me], gathered.data(), counts, {}, DataType::kUint32, 1);
                !s.ok()) {
              return s.to_string();
            }
            if (me == 1 && perf::count_wrong_pattern(gathered.data(), 0, total, 4, 1) != 0) return "gather_v";
            if (auto s = comm.scatter_v(all.data(), counts, offsets, got.data(), counts[me], DataType::kUint32, 1);
                !s.ok()) {
              return s.to_string();
            }
            if (perf::count_wrong_pattern(got.data(), offsets[me], counts[me], 4, 1) != 0) return "scatter_v";
            auto in = operand(total, kType, ReduceOp::kSum, comm.rank(), comm.size());
            std::vector<float> sum(counts[me] + 1);
            if (auto s = comm.reduce_scatter_v(in.data(), sum.data(), counts, kType, ReduceOp::kSum); !s.ok()) {
              return s.to_string();
            }
            if (perf::count_wrong_reduction(sum.data(), offsets[me], counts[me], kType, ReduceOp::kSum, comm.size()) !=
                0) {
              return "reduce_scatter_v";
            }
            // Rank i sends (i + j) % 3 elements to rank j: only the pair knows.
            std::vector<std::size_t> out_counts, in_counts;
            for (std::size_t r = 0; r < ranks; ++r) {
              in_counts.push_back((me + r) % 3);
              out_counts.push_back((r + me) % 3);
            }
            std::vector<std::int32_t> sent(std::accumulate(in_counts.begin(), in_counts.end(), std::size_t{0}) + 1,
                                           comm.rank());
            std::vector<std::int32_t> received(
                std::accumulate(out_counts.begin(), out_counts.end(), std::size_t{0}) + 1, -1);
            if (auto s =
                    comm.all_to_all_v(sent.data(), in_counts, {}, received.data(), out_counts, {}, DataType::kInt32);
                !s.ok()) {
              return s.to_string();
            }
            std::size_t at = 0;
            for (std::size_t r = 0; r < ranks; ++r) {
              for (std::size_t k = 0; k < out_counts[r]; ++k) {
                if (received[at++] != static_cast<std::int32_t>(r)) return "all_to_all_v";
              }
            }
            return "";
          })) == "");
  }
}

TEST_CASE("Collectives overlap, and two communicators may be used in opposite order") {
  CHECK(test::first_problem(test::run(test::two_regions(2, 1), [](Communicator& comm) -> std::string {
          auto other = comm.split(0, comm.rank());
          if (!other.ok()) return other.status().to_string();
          constexpr std::size_t kCount = 300'000;
          std::vector<std::vector<float>> data;
          for (int i = 0; i < 8; ++i) data.emplace_back(kCount, static_cast<float>(i + comm.rank()));
          std::vector<Work> works;
          const auto start = [&](Communicator& on, std::size_t i) {
            works.push_back(on.all_reduce_async(data[i].data(), data[i].data(), kCount, kType, ReduceOp::kSum));
          };
          // Half of the ranks start with one communicator, half with the other.
          for (std::size_t i = 0; i < 8; ++i) {
            const bool first = (comm.rank() % 2 == 0) == (i < 4);
            start(first ? comm : *other, comm.rank() % 2 == 0 ? i : (i + 4) % 8);
          }
          for (Work& work : works) {
            if (auto status = work.wait(); !status.ok()) return status.to_string();
          }
          for (std::size_t i = 0; i < 8; ++i) {
            const float expected = 4.0f * static_cast<float>(i) + 6.0f;
            if (data[i][0] != expected || data[i][kCount - 1] != expected) return "all_reduce " + std::to_string(i);
          }
          return text(comm.barrier());
        })) == "");
}

TEST_CASE("Split makes groups ordered by key") {
  Job job;
  job.ranks = 5;
  CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
          auto half = comm.split(comm.rank() == 4 ? -1 : comm.rank() % 2, -comm.rank());
          if (!half.ok()) return half.status().to_string();
          if (comm.rank() == 4) return "";
          if (half->size() != 2 || half->rank() != (comm.rank() < 2 ? 1 : 0)) return "order";
          int sum = 0;
          const int mine = comm.rank();
          if (auto s = half->all_reduce(&mine, &sum, 1, DataType::kInt32, ReduceOp::kSum); !s.ok()) {
            return s.to_string();
          }
          return sum == (comm.rank() % 2 == 0 ? 2 : 4) ? "" : "sum";
        })) == "");
}

TEST_CASE("A subgroup is made by its members alone, in the order they name") {
  Job job;
  job.ranks = 5;
  CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
          if (comm.rank() == 1) return text(comm.barrier());  // takes no part in what the others do meanwhile
          const std::vector<int> ranks = comm.rank() % 2 == 0 ? std::vector<int>{4, 0, 2} : std::vector<int>{3};
          for (std::uint32_t tag = 0; tag < 3; ++tag) {
            auto group = comm.subgroup(ranks, tag);
            if (!group.ok()) return group.status().to_string();
            if (ranks[static_cast<std::size_t>(group->rank())] != comm.rank()) return "order";
            std::vector<int> all(ranks.size());
            const int mine = comm.rank();
            if (auto s = group->all_gather(&mine, all.data(), 1, DataType::kInt32); !s.ok()) return s.to_string();
            if (all != ranks) return "members";
          }
          return text(comm.barrier());
        })) == "");
}

TEST_CASE("A subgroup that cannot be is refused with what is wrong") {
  Job job;
  job.ranks = 2;
  CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
          for (const auto& [ranks, says] :
               std::vector<std::pair<std::vector<int>, std::string>>{{{0, 1, 2}, "rank 2 is not one of 0 to 1"},
                                                                     {{0, 1, 0}, "rank 0 is named twice"},
                                                                     {{1 - comm.rank()}, "is not one of its ranks"}}) {
            const auto group = comm.subgroup(ranks);
            if (group.ok() || std::string(group.status().message()).find(says) == std::string::npos) return says;
          }
          return "";
        })) == "");
}

}  // namespace longspan
