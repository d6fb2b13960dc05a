// Send and receive: order, tags, any source, groups, odd lengths.
#include <numeric>

#include "ranks.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

constexpr DataType kInt = DataType::kInt32;

std::string text(const Status& status) { return status.ok() ? "" : status.to_string(); }

}  // namespace

TEST_CASE("Messages of one source and tag arrive in order, whenever their receive is posted") {
  test::Job job;
  CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
          constexpr int kMessages = 200;
          if (comm.rank() == 0) {
            std::vector<int> values(kMessages);
            std::iota(values.begin(), values.end(), 0);
            std::vector<Work> works;
            for (int& value : values) works.push_back(comm.send(&value, 1, kInt, 1, value % 2 == 0 ? 7 : 8));
            for (Work& work : works) {
              if (auto s = work.wait(); !s.ok()) return s.to_string();
            }
            return "";
          }
          for (const std::uint32_t tag : {8U, 7U}) {
            for (int i = tag == 7 ? 0 : 1; i < kMessages; i += 2) {
              int got = -1;
              if (auto s = comm.recv(&got, 1, kInt, 0, tag).wait(); !s.ok()) return s.to_string();
              if (got != i) {
                return "tag " + std::to_string(tag) + ": got " + std::to_string(got) + " for " + std::to_string(i);
              }
            }
          }
          return "";
        })) == "");
}

TEST_CASE("A receive from any source takes each message once and tells who sent it") {
  for (test::Job job : {test::Job{}, test::two_regions(2, 1)}) {
    job.ranks = 4;
    CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
            if (comm.rank() != 0) {
              for (int i = 0; i < 20; ++i) {
                const int value = comm.rank() * 1000 + i;
                if (auto s = comm.send(&value, 1, kInt, 0, 3).wait(); !s.ok()) return s.to_string();
              }
              return text(comm.barrier());
            }
            std::vector<int> next(4, 0);
            for (int i = 0; i < 60; ++i) {
              int got[4] = {};
              Work work = comm.recv(got, 4, kInt, kAnySource, 3);
              if (auto s = work.wait(); !s.ok()) return s.to_string();
              const auto source = static_cast<std::size_t>(work.source());
              if (work.received_count() != 1) return "length";
              if (got[0] != work.source() * 1000 + next[source]++) return "order of " + std::to_string(source);
            }
            return text(comm.barrier());
          })) == "");
  }
}

TEST_CASE("A receive from one rank waits its turn behind one from any") {
  CHECK(test::first_problem(test::run(test::Job{}, [](Communicator& comm) -> std::string {
          if (comm.rank() == 0) {
            int first = -1, second = -1;
            Work any = comm.recv(&first, 1, kInt, kAnySource, 1);
            Work one = comm.recv(&second, 1, kInt, 1, 1);
            if (auto s = comm.barrier(); !s.ok()) return s.to_string();
            if (auto s = any.wait(); !s.ok()) return s.to_string();
            if (auto s = one.wait(); !s.ok()) return s.to_string();
            return first == 10 && second == 11 ? "" : "out of order";
          }
          if (auto s = comm.barrier(); !s.ok()) return s.to_string();
          for (const int value : {10, 11}) {
            if (auto s = comm.send(&value, 1, kInt, 0, 1).wait(); !s.ok()) return s.to_string();
          }
          return "";
        })) == "");
}

TEST_CASE("A group lets every rank send before it receives, also large messages") {
  test::Job job;
  job.ranks = 3;
  CHECK(test::first_problem(test::run(job, [](Communicator& comm) -> std::string {
          constexpr std::size_t kCount = 2'000'000;
          const int right = (comm.rank() + 1) % 3, left = (comm.rank() + 2) % 3;
          const std::vector<int> out(kCount, comm.rank());
          std::vector<int> in(kCount, -1);
          CallGroup group;
          comm.send(out.data(), kCount, kInt, right);
          comm.recv(in.data(), kCount, kInt, left);
          if (auto s = group.end(); !s.ok()) return s.to_string();
          return in[0] == left && in[kCount - 1] == left ? "" : "content";
        })) == "");
}

TEST_CASE("A message longer than its buffer is an error of that receive alone") {
  CHECK(test::first_problem(test::run(test::Job{}, [](Communicator& comm) -> std::string {
          std::vector<int> data(100, 1);
          if (comm.rank() == 0) {
            if (auto s = comm.send(data.data(), 100, kInt, 1).wait(); !s.ok()) return s.to_string();
          } else {
            const Status status = comm.recv(data.data(), 10, kInt, 0).wait();
            if (status.code() != StatusCode::kInvalidArgument) return "expected an error, got " + status.to_string();
          }
          return text(comm.barrier());
        })) == "");
}

TEST_CASE("A wrong peer or root is refused at once and the communicator goes on") {
  CHECK(test::first_problem(test::run(test::Job{}, [](Communicator& comm) -> std::string {
          int x = 0;
          if (comm.send(&x, 1, kInt, 2).wait().code() != StatusCode::kInvalidArgument) {
            return "send to a rank that is not there";
          }
          if (comm.recv(&x, 1, kInt, comm.rank()).wait().code() != StatusCode::kInvalidArgument) {
            return "receive from oneself";
          }
          if (comm.broadcast(&x, &x, 1, kInt, 9).code() != StatusCode::kInvalidArgument) return "root";
          if (comm.all_reduce(nullptr, &x, 1, kInt, ReduceOp::kSum).code() != StatusCode::kInvalidArgument) {
            return "null input";
          }
          return text(comm.barrier());
        })) == "");
}

}  // namespace longspan
