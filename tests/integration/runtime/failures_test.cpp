// Whatever goes wrong, every rank gets the same named error in time, and nothing hangs.
#include <chrono>
#include <thread>

#include "ranks.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using namespace std::chrono_literals;
constexpr DataType kFloat = DataType::kFloat32;

/// A report "code: message" of a failure; "" when there was none.
std::string failure(const Status& status) { return status.ok() ? "" : status.to_string(); }

void check_all(const std::vector<std::string>& reports, const std::string& code,
               const std::vector<std::string>& words) {
  for (const std::string& report : reports) {
    INFO(report);
    CHECK(report.rfind(code + ":", 0) == 0);
    for (const std::string& word : words) CHECK(report.find(word) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("A call with another count is named on every rank") {
  const auto reports = test::run(test::two_regions(2, 1), [](Communicator& comm) {
    std::vector<float> x(2000, 1);
    if (auto s = comm.barrier(); !s.ok()) return "barrier: " + s.to_string();
    return failure(comm.all_reduce(x.data(), x.data(), comm.rank() == 2 ? 1000 : 1024, kFloat, ReduceOp::kSum));
  });
  check_all(reports, "mismatch", {"rank 2", "us-0", "1000", "1024"});
}

TEST_CASE("A call with another type or operation is named on every rank") {
  auto reports = test::run(test::two_regions(2, 1), [](Communicator& comm) {
    std::vector<double> x(64, 1);
    return failure(comm.all_reduce(x.data(), x.data(), 64, kFloat, comm.rank() == 1 ? ReduceOp::kMax : ReduceOp::kSum));
  });
  check_all(reports, "mismatch", {"rank 1", "max"});
  reports = test::run(test::two_regions(2, 1), [](Communicator& comm) {
    std::vector<double> x(64, 1);
    return failure(
        comm.all_reduce(x.data(), x.data(), 64, comm.rank() == 3 ? DataType::kInt32 : kFloat, ReduceOp::kSum));
  });
  check_all(reports, "mismatch", {"rank 3", "int32"});
}

TEST_CASE("A rank that calls another collective is named on every rank") {
  const auto reports = test::run(test::two_regions(2, 1), [](Communicator& comm) {
    std::vector<float> x(64, 1), y(256);
    if (comm.rank() == 0) return failure(comm.all_gather(x.data(), y.data(), 64, kFloat));
    return failure(comm.all_reduce(x.data(), x.data(), 64, kFloat, ReduceOp::kSum));
  });
  check_all(reports, "mismatch", {"rank 0"});
}

TEST_CASE("A rank that never calls is named when the time is over") {
  test::Job job = test::two_regions(2, 1);
  job.timeout = 1s;
  const auto reports = test::run(job, [](Communicator& comm) {
    std::vector<float> x(64, 1);
    if (comm.rank() != 3) return failure(comm.all_reduce(x.data(), x.data(), 64, kFloat, ReduceOp::kSum));
    // Rank 3 computes for ever, as far as the others can see; it hears of it with its next call.
    Status status;
    for (const auto until = std::chrono::steady_clock::now() + 10s;
         status.ok() && std::chrono::steady_clock::now() < until;) {
      std::this_thread::yield();
      status = comm.error();
    }
    return failure(status);
  });
  check_all(reports, "timeout", {"rank 3", "has not entered"});
}

TEST_CASE("Abort ends a waiting call on every rank, promptly and from another thread") {
  const auto started = std::chrono::steady_clock::now();
  const auto reports = test::run(test::two_regions(2, 1), [](Communicator& comm) {
    std::vector<float> x(64, 1);
    if (comm.rank() != 1) return failure(comm.all_reduce(x.data(), x.data(), 64, kFloat, ReduceOp::kSum));
    int never = 0;
    Work work = comm.recv(&never, 1, DataType::kInt32, 0);
    std::thread other([&comm] { comm.abort("the user pressed stop"); });
    const Status status = work.wait();
    other.join();
    return failure(status);
  });
  check_all(reports, "aborted", {"rank 1", "the user pressed stop"});
  CHECK(std::chrono::steady_clock::now() - started < 20s);
}

TEST_CASE("After an error every call returns it") {
  test::Job job;
  const auto reports = test::run(job, [](Communicator& comm) -> std::string {
    comm.abort("first");
    float x = 0;
    const Status again = comm.all_reduce(&x, &x, 1, kFloat, ReduceOp::kSum);
    if (again.code() != StatusCode::kAborted) return "expected aborted, got " + again.to_string();
    return comm.error().code() == StatusCode::kAborted ? "" : "error()";
  });
  CHECK(test::first_problem(reports) == "");
}

TEST_CASE("An algorithm that is not offered is refused with what is") {
  test::Job job;
  job.algorithm = "nonsense";
  const auto reports = test::run(job, [](Communicator& comm) {
    float x = 0;
    return failure(comm.all_reduce(&x, &x, 1, kFloat, ReduceOp::kSum));
  });
  for (const auto& report : reports) {
    INFO(report);
    CHECK(report.find("nonsense") != std::string::npos);
    CHECK(report.find("ring") != std::string::npos);
  }
}

}  // namespace longspan
