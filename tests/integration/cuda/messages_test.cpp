// Sends and receives of device memory: the bytes of host memory, wherever both ends have their buffers.
#include <algorithm>

#include "cases.hpp"
#include "harness/elements.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using test::Buffer;
using test::Job;
using test::gpu::ready;

constexpr DataType kByte = DataType::kUint8;
// Nothing, one piece, just one, just more, many that fill all places several times.
constexpr std::size_t kSizes[] = {0, 1, 1000, 1 << 20, (1 << 20) + 1, 20'000'003};

std::vector<std::byte> content(std::size_t bytes, std::uint64_t seed) {
  std::vector<std::byte> data(bytes);
  perf::fill_pattern(data.data(), 0, bytes, 1, seed);
  return data;
}

/// Where the two ends of a message are.
struct Ends {
  bool from = true;
  bool to = true;
};
constexpr Ends kEnds[] = {{true, true}, {true, false}, {false, true}};

bool starts_with(const Buffer& buffer, const std::vector<std::byte>& bytes) {
  const std::vector<std::byte> got = buffer.read();
  return std::equal(bytes.begin(), bytes.end(), got.begin());
}

/// Rank 0 sends to the last rank, which has more room than it needs.
std::string every_size(Communicator& comm) {
  const int last = comm.size() - 1;
  const int on = test::device_of(comm);
  for (const Ends ends : kEnds) {
    for (const std::size_t size : kSizes) {
      for (const bool late : {false, true}) {
        const auto data = content(size, size);
        if (comm.rank() == 0) {
          Buffer buffer(ends.from, on, size);
          buffer.write(data);
          Work work = comm.send(buffer.get(), size, kByte, last, 3);
          if (late) {
            if (const Status status = comm.barrier(); !status.ok()) return status.to_string();
          }
          if (const Status status = work.wait(); !status.ok()) return status.to_string();
        } else if (comm.rank() == last) {
          Buffer buffer(ends.to, on, size + 5);
          if (late) {
            if (const Status status = comm.barrier(); !status.ok()) return status.to_string();
          }
          Work work = comm.recv(buffer.get(), size + 5, kByte, size % 2 == 0 ? kAnySource : 0, 3);
          if (const Status status = work.wait(); !status.ok()) return status.to_string();
          if (work.received_count() != size || work.source() != 0) return "length or source";
          if (!starts_with(buffer, data)) return std::to_string(size) + " bytes differ";
        } else if (late) {
          if (const Status status = comm.barrier(); !status.ok()) return status.to_string();
        }
      }
    }
  }
  return "";
}

/// Every rank sends to the next and receives from the one before, in a stream of its own, several times.
std::string ring_in_streams(Communicator& comm, bool device) {
  constexpr std::size_t kBytes = 6'000'001;
  const int ranks = comm.size();
  const int right = (comm.rank() + 1) % ranks, left = (comm.rank() + ranks - 1) % ranks;
  test::gpu::Stream stream(test::device_of(comm));
  Buffer out(device, test::device_of(comm), kBytes), in(device, test::device_of(comm), kBytes);
  std::vector<std::vector<std::byte>> given, got;
  for (std::uint64_t i = 0; i < 3; ++i) {
    given.push_back(content(kBytes, static_cast<std::uint64_t>(comm.rank()) + 10 * i));
    got.emplace_back(kBytes);
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    stream.copy(out.get(), given[i].data(), kBytes);
    CallGroup group;
    comm.send(out.get(), kBytes, kByte, right, 0, stream.get());
    comm.recv(in.get(), kBytes, kByte, left, 0, stream.get());
    if (const Status status = group.end(); !status.ok()) return status.to_string();
    stream.copy(got[i].data(), in.get(), kBytes);
  }
  if (const int code = stream.synchronize(); code != 0) return "the stream failed with " + std::to_string(code);
  for (std::uint64_t i = 0; i < got.size(); ++i) {
    if (got[i] != content(kBytes, static_cast<std::uint64_t>(left) + 10 * i)) return "round " + std::to_string(i);
  }
  return comm.error().ok() ? "" : comm.error().to_string();
}

}  // namespace

TEST_CASE("A message of device memory arrives, of any length, from and to any memory") {
  if (!ready()) return;
  SECTION("on one host") { CHECK(test::first_problem(test::run(Job{}, every_size)) == ""); }
  SECTION("across two regions") {
    CHECK(test::first_problem(test::run(test::two_regions(1, 1), every_size)) == "");
  }
}

TEST_CASE("Messages of device memory keep their order among those of host memory") {
  if (!ready()) return;
  CHECK(test::first_problem(test::run(test::two_regions(1, 1), [](Communicator& comm) -> std::string {
          constexpr std::size_t kMessages = 24;
          std::vector<Buffer> buffers;
          std::vector<Work> works;
          for (std::size_t i = 0; i < kMessages; ++i) {
            const std::size_t size = i * 150'000;
            const bool device = (i + static_cast<std::size_t>(comm.rank())) % 3 != 0;
            buffers.emplace_back(device, test::device_of(comm), size);
            if (comm.rank() == 0) buffers.back().write(content(size, i));
            works.push_back(comm.rank() == 0 ? comm.send(buffers.back().get(), size, kByte, 1)
                                             : comm.recv(buffers.back().get(), size, kByte, 0));
          }
          for (std::size_t i = 0; i < kMessages; ++i) {
            if (const Status status = works[i].wait(); !status.ok()) return status.to_string();
            if (comm.rank() == 1 && !starts_with(buffers[i], content(i * 150'000, i)))
              return "message " + std::to_string(i);
          }
          return "";
        })) == "");
}

TEST_CASE("A stream orders messages, and those of a group begin together") {
  if (!ready()) return;
  Job job;
  job.ranks = 3;
  for (const bool device : {true, false}) {
    CHECK(test::first_problem(test::run(job, [&](Communicator& comm) { return ring_in_streams(comm, device); })) == "");
  }
  CHECK(test::first_problem(test::run(test::two_regions(1, 1), [](Communicator& comm) {
          return ring_in_streams(comm, true);
        })) == "");
}

TEST_CASE("A message of device memory that is too long is an error of its receive alone") {
  if (!ready()) return;
  for (const bool regions : {true, false}) {
    for (const std::size_t size : {std::size_t{100}, std::size_t{5'000'000}}) {
      for (const Ends ends : kEnds) {
        const auto reports = test::run(regions ? test::two_regions(1, 1) : Job{}, [&](Communicator& comm) {
          Buffer buffer(comm.rank() == 0 ? ends.from : ends.to, test::device_of(comm), size);
          Work work = comm.rank() == 0 ? comm.send(buffer.get(), size, kByte, 1)
                                       : comm.recv(buffer.get(), size / 2, kByte, 0);
          const Status status = work.wait();
          const StatusCode expected = comm.rank() == 0 ? StatusCode::kOk : StatusCode::kInvalidArgument;
          if (status.code() != expected) return "ends with " + status.to_string();
          const Status after = comm.barrier();
          return after.ok() ? std::string() : after.to_string();
        });
        CHECK(test::first_problem(reports) == "");
      }
    }
  }
}

TEST_CASE("A message of device memory that does not come ends at its deadline") {
  if (!ready()) return;
  Job job = test::two_regions(1, 1);
  job.timeout = std::chrono::milliseconds(300);
  for (const std::size_t size : {std::size_t{100}, std::size_t{5'000'000}}) {
    CHECK(test::first_problem(test::run(job, [&](Communicator& comm) -> std::string {
            test::gpu::Memory memory(test::device_of(comm), size);
            const Status status = comm.recv(memory.get(), size, kByte, 1 - comm.rank()).wait();
            return status.code() == StatusCode::kTimeout ? "" : status.to_string();
          })) == "");
  }
}

}  // namespace longspan
