// How fast device memory is moved and reduced: page-locked copies, the reduce kernel beside a copy of the same bytes,
// and allreduces of device memory among ranks that share this machine's GPUs.   gpu_bench [MiB, default 256]
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "cases.hpp"
#include "device/cuda/copier.hpp"
#include "device/cuda/kernels.hpp"

namespace longspan {
namespace {

namespace cuda = device::cuda;
constexpr int kRounds = 10;

/// The median of several rounds, in seconds.
template <class Round>
double median_of(Round&& round) {
  std::vector<double> seconds;
  round();
  for (int i = 0; i < kRounds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    round();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

void print(const std::string& what, double bytes, double seconds) {
  fmt::print("{:<44} {:>10.1f} us {:>9.2f} GB/s\n", what, seconds * 1e6, bytes / seconds / 1e9);
}

/// Returns the failure's text, or "".
std::string copies_and_kernel(const cuda::Driver& driver, std::size_t bytes) {
  auto context = cuda::PrimaryContext::retain(driver, 0);
  if (!context.ok()) return context.status().to_string();
  const cuda::ContextGuard guard(driver, (*context)->get());
  test::gpu::Stream stream(0);
  const test::gpu::Memory a(0, bytes), b(0, bytes), c(0, bytes);
  void* host = nullptr;
  if (driver.host_alloc(&host, bytes, cuda::kHostAllocPortable) != cuda::kSuccess) return "no page-locked memory";
  const auto copy = [&](const char* what, void* to, const void* from, double moved) {
    print(what, moved, median_of([&] {
            stream.copy(to, from, bytes);
            stream.synchronize();
          }));
  };
  const auto size = static_cast<double>(bytes);
  copy("page-locked copy, device to host", host, a.get(), size);
  copy("page-locked copy, host to device", a.get(), host, size);
  copy("copy on the device, read and written", b.get(), a.get(), 2 * size);
  driver.host_free(host);
  const std::byte anything[1] = {};
  auto kernels =
      cuda::Kernels::load(driver, test::gpu::is_double() ? std::span<const std::byte>(anything) : cuda::kernel_image());
  if (!kernels.ok()) return kernels.status().to_string();
  const void* const operands[] = {a.get(), b.get()};
  for (const DataType type : {DataType::kFloat32, DataType::kBfloat16}) {
    Status status;
    const double seconds = median_of([&] {
      status = (*kernels)->reduce(type, ReduceOp::kSum, c.get(), operands, bytes / size_of(type), 1,
                                  static_cast<cuda::Stream>(stream.get()));
      stream.synchronize();
    });
    if (!status.ok()) return status.to_string();
    print(fmt::format("reduce kernel, {}, read and written", name_of(type)), 3 * size, seconds);
  }
  return "";
}

std::string all_reduce_times(Communicator& comm, std::size_t bytes, const char* where) {
  const test::gpu::Memory in(test::device_of(comm), bytes), out(test::device_of(comm), bytes);
  Status status;
  const double seconds = median_of([&] {
    const Status each = comm.all_reduce(in.get(), out.get(), bytes / 4, DataType::kFloat32, ReduceOp::kSum);
    if (!each.ok()) status = each;
  });
  if (comm.rank() == 0)
    print(fmt::format("allreduce, {} ranks, {}", comm.size(), where), static_cast<double>(bytes), seconds);
  return status.ok() ? "" : status.to_string();
}

std::string all_reduces(std::size_t bytes, const test::Job& job) {
  const char* const where = job.topology.empty() ? "one host, threads" : "two regions, threads";
  return test::first_problem(
      test::run(job, [&](Communicator& comm) { return all_reduce_times(comm, bytes, where); }));
}

/// A rank in a process of its own, which loads the driver: its exit code. Rank 0 hands the others the job's name.
int be_process(int rank, int ranks, std::size_t bytes, const int line[2]) {
  UniqueId id;
  constexpr auto kBytes = static_cast<ssize_t>(sizeof id.bytes);
  if (!test::gpu::ready()) return 0;
  if (rank == 0) {
    const auto made = make_unique_id();
    if (!made.ok()) return 1;
    id = *made;
    for (int i = 1; i < ranks; ++i) {
      if (::write(line[1], id.bytes, sizeof id.bytes) != kBytes) return 1;
    }
  } else if (::read(line[0], id.bytes, sizeof id.bytes) != kBytes) {
    return 1;
  }
  auto comm = Communicator::create(id, rank, ranks);
  const std::string problem =
      comm.ok() ? all_reduce_times(*comm, bytes, "one host, processes (CUDA IPC)") : comm.status().to_string();
  if (!problem.empty()) fmt::print("failed: rank {}: {}\n", rank, problem);
  std::fflush(stdout);
  return problem.empty() ? 0 : 1;
}

/// Before this process has touched the driver: its children could not use theirs then.
bool processes_end_well(int ranks, std::size_t bytes) {
  int line[2];
  if (::pipe(line) != 0) return false;
  std::fflush(stdout);
  for (int rank = 0; rank < ranks; ++rank) {
    if (::fork() == 0) ::_exit(be_process(rank, ranks, bytes, line));
  }
  ::close(line[0]);
  ::close(line[1]);
  bool well = true;
  for (int status = 0; ::wait(&status) > 0;) well = well && status == 0;
  return well;
}

int run(std::size_t bytes) {
  const bool well = processes_end_well(2, bytes) && processes_end_well(4, bytes);
  if (!test::gpu::ready()) return 0;
  fmt::print("# {} bytes, {} devices, {}; median of {}\n", bytes, test::gpu::devices(),
             test::gpu::is_double() ? "a double of the driver: these are no figures of a GPU" : "a GPU", kRounds);
  const auto driver = cuda::Driver::usable();
  std::string problem = driver.ok() ? copies_and_kernel(**driver, bytes) : driver.status().to_string();
  if (!well) problem = "ranks in processes";
  for (const int ranks : {2, 4}) {
    test::Job job;
    job.ranks = ranks;
    if (problem.empty()) problem = all_reduces(bytes, job);
  }
  if (problem.empty()) problem = all_reduces(bytes, test::two_regions(1, 1));
  if (problem.empty()) return 0;
  fmt::print("failed: {}\n", problem);
  return 1;
}

}  // namespace
}  // namespace longspan

int main(int count, char** arguments) {
  const unsigned long mebibytes = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 256;
  return longspan::run(std::max(mebibytes, 1UL) << 20);
}
