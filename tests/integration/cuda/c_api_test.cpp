// The C API with device memory and streams.
#include <thread>

#include "cases.hpp"
#include "longspan/longspan.h"
#include "support/catch.hpp"

namespace longspan {
namespace {

constexpr std::size_t kCount = 400'000;

/// One rank; "" or what went wrong.
std::string rank_in_c(const longspan_unique_id_t& id, int rank, int size) {
  longspan_comm_t comm = nullptr;
  if (longspan_init(&id, rank, size, nullptr, &comm) != LONGSPAN_OK) return longspan_last_error();
  const int device = rank % test::gpu::devices();
  std::string problem;
  {
    test::gpu::Stream stream(device);
    test::gpu::Memory in(device, kCount * 4), sum(device, kCount * 4), got(device, kCount * 4);
    const std::vector<float> given(kCount, static_cast<float>(rank + 1));
    std::vector<float> result(kCount), message(kCount);
    stream.copy(in.get(), given.data(), kCount * 4);
    const int right = (rank + 1) % size, left = (rank + size - 1) % size;
    const bool ok =
        longspan_all_reduce(in.get(), sum.get(), kCount, LONGSPAN_FLOAT32, LONGSPAN_SUM, comm, stream.get(), nullptr) ==
            LONGSPAN_OK &&
        longspan_group_start() == LONGSPAN_OK &&
        longspan_send(in.get(), kCount, LONGSPAN_FLOAT32, right, 5, comm, stream.get(), nullptr) == LONGSPAN_OK &&
        longspan_recv(got.get(), kCount, LONGSPAN_FLOAT32, left, 5, comm, stream.get(), nullptr) == LONGSPAN_OK &&
        longspan_group_end() == LONGSPAN_OK;
    if (!ok) problem = longspan_last_error();
    stream.copy(result.data(), sum.get(), kCount * 4);
    stream.copy(message.data(), got.get(), kCount * 4);
    if (stream.synchronize() != 0) problem = "the stream failed";
    if (result != std::vector<float>(kCount, static_cast<float>(size * (size + 1) / 2))) problem += " sum";
    if (message != std::vector<float>(kCount, static_cast<float>(left + 1))) problem += " message";
    if (longspan_comm_error(comm) != LONGSPAN_OK) problem += longspan_last_error();
    // Without a stream it blocks.
    if (longspan_all_gather(in.get(), sum.get(), kCount / static_cast<std::size_t>(size), LONGSPAN_FLOAT32, comm,
                            nullptr, nullptr) != LONGSPAN_OK)
      problem += longspan_last_error();
  }
  longspan_destroy(comm);
  return problem;
}

}  // namespace

TEST_CASE("The C API takes device memory and streams, in collectives and groups of messages") {
  if (!test::gpu::ready()) return;
  constexpr int kRanks = 3;
  longspan_unique_id_t id;
  REQUIRE(longspan_unique_id(&id) == LONGSPAN_OK);
  std::vector<std::string> problems(kRanks);
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back([&, r] { problems[static_cast<std::size_t>(r)] = rank_in_c(id, r, kRanks); });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(test::first_problem(problems) == "");
}

}  // namespace longspan
